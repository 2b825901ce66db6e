"""Python objects of another process, used as if they were local, across any chain of gateways."""

from rpyc_gateway import codecs, ops
from rpyc_gateway.affinity import thread
from rpyc_gateway.calls import checkpoint
from rpyc_gateway.client import open_session
from rpyc_gateway.codecs import register_codec
from rpyc_gateway.config import Config
from rpyc_gateway.deadlines import timeout
from rpyc_gateway.delivery import deliver, obtain
from rpyc_gateway.errors import (
    Cancelled,
    ConfigError,
    Denied,
    DialFailed,
    DuplicateNode,
    EncodeError,
    GatewayError,
    LimitExceeded,
    LinkLost,
    NoCodec,
    NoService,
    NotExposed,
    ProtocolError,
    Refused,
    RemoteError,
    SessionClosed,
    TimedOut,
    Unreachable,
)
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.iteration import buffiter
from rpyc_gateway.proto.raised import remote_path, remote_traceback
from rpyc_gateway.service import Service, expose
from rpyc_gateway.sync import BlockingSession, connect, serve
from rpyc_gateway.version import __version__

__all__ = [
    "BlockingSession",
    "Cancelled",
    "Config",
    "ConfigError",
    "Denied",
    "DialFailed",
    "DuplicateNode",
    "EncodeError",
    "GatewayError",
    "LimitExceeded",
    "LinkLost",
    "NoCodec",
    "NoService",
    "Node",
    "NotExposed",
    "ProtocolError",
    "Refused",
    "RemoteError",
    "Service",
    "SessionClosed",
    "TimedOut",
    "Unreachable",
    "__version__",
    "buffiter",
    "checkpoint",
    "codecs",
    "connect",
    "deliver",
    "expose",
    "obtain",
    "open_node",
    "open_session",
    "ops",
    "register_codec",
    "remote_path",
    "remote_traceback",
    "serve",
    "thread",
    "timeout",
]
