"""For tests, yours too: what can go wrong on a wire or on a serial line, on demand; and whether a transport is one."""

import sys

from rpyc_gateway.testing.transports import TransportFault as TransportFault
from rpyc_gateway.testing.transports import check_transport as check_transport
from rpyc_gateway.testing.wire import BadWire as BadWire

if sys.platform != "win32":  # which has no ptys
    from rpyc_gateway.testing.line import BadLine as BadLine

__all__ = ["BadLine", "BadWire", "TransportFault", "check_transport"]
