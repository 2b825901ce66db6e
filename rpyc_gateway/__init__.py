"""Python objects of another process, used as if they were local, across any chain of gateways."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rpyc_gateway.version import __version__

if TYPE_CHECKING:
    from rpyc_gateway import codecs, ops
    from rpyc_gateway.affinity import thread
    from rpyc_gateway.async_calls import async_, timed
    from rpyc_gateway.async_result import AsyncResult
    from rpyc_gateway.batches import batch
    from rpyc_gateway.boards import open_node
    from rpyc_gateway.calls import checkpoint
    from rpyc_gateway.client import open_session
    from rpyc_gateway.codecs import register_codec
    from rpyc_gateway.config import Config
    from rpyc_gateway.deadlines import timeout
    from rpyc_gateway.debugging import post_mortem
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
        PeerRestarted,
        ProtocolError,
        Refused,
        RemoteError,
        SessionClosed,
        TimedOut,
        Unreachable,
    )
    from rpyc_gateway.executor import Executor
    from rpyc_gateway.files import download, transfer, upload, upload_package
    from rpyc_gateway.gateway import Node
    from rpyc_gateway.imports import imports
    from rpyc_gateway.interaction import interact
    from rpyc_gateway.iteration import buffiter
    from rpyc_gateway.proto.raised import remote_path, remote_traceback
    from rpyc_gateway.redirection import redirected_stdio
    from rpyc_gateway.service import Service, expose
    from rpyc_gateway.sync import BlockingSession, connect, serve
    from rpyc_gateway.teleporting import teleport
    from rpyc_gateway.views import restricted

__all__ = [
    "AsyncResult",
    "BlockingSession",
    "Cancelled",
    "Config",
    "ConfigError",
    "Denied",
    "DialFailed",
    "DuplicateNode",
    "EncodeError",
    "Executor",
    "GatewayError",
    "LimitExceeded",
    "LinkLost",
    "NoCodec",
    "NoService",
    "Node",
    "NotExposed",
    "PeerRestarted",
    "ProtocolError",
    "Refused",
    "RemoteError",
    "Service",
    "SessionClosed",
    "TimedOut",
    "Unreachable",
    "__version__",
    "async_",
    "batch",
    "buffiter",
    "checkpoint",
    "codecs",
    "connect",
    "deliver",
    "download",
    "expose",
    "imports",
    "interact",
    "obtain",
    "open_node",
    "open_session",
    "ops",
    "post_mortem",
    "redirected_stdio",
    "register_codec",
    "remote_path",
    "remote_traceback",
    "restricted",
    "serve",
    "teleport",
    "thread",
    "timed",
    "timeout",
    "transfer",
    "upload",
    "upload_package",
]

# Where each name is at home. It is loaded when somebody wants it: a program that connects late, or the command line, does not wait for all
# of it at its start. (A test compares this with what type checkers are told above.)
_HOMES = {
    "affinity": "thread",
    "async_calls": "async_ timed",
    "async_result": "AsyncResult",
    "batches": "batch",
    "boards": "open_node",
    "calls": "checkpoint",
    "client": "open_session",
    "codecs": "register_codec",
    "config": "Config",
    "deadlines": "timeout",
    "debugging": "post_mortem",
    "delivery": "deliver obtain",
    "errors": "Cancelled ConfigError Denied DialFailed DuplicateNode EncodeError GatewayError LimitExceeded LinkLost NoCodec NoService"
    " NotExposed PeerRestarted ProtocolError Refused RemoteError SessionClosed TimedOut Unreachable",
    "executor": "Executor",
    "files": "download transfer upload upload_package",
    "gateway": "Node",
    "imports": "imports",
    "interaction": "interact",
    "iteration": "buffiter",
    "proto.raised": "remote_path remote_traceback",
    "redirection": "redirected_stdio",
    "service": "Service expose",
    "sync": "BlockingSession connect serve",
    "teleporting": "teleport",
    "views": "restricted",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

if not TYPE_CHECKING:  # or no misspelt name would be noticed

    def __getattr__(name: str) -> object:
        if name in ("codecs", "ops"):
            return import_module(f"{__name__}.{name}")
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "import_module", "annotations"})
