"""For tests, yours too: what can go wrong on a wire, on demand; and whether a transport is one."""

from rpyc_gateway.testing.transports import TransportFault as TransportFault
from rpyc_gateway.testing.transports import check_transport as check_transport
from rpyc_gateway.testing.wire import BadWire as BadWire

__all__ = ["BadWire", "TransportFault", "check_transport"]
