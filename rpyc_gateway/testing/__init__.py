"""For tests, yours too: what can go wrong on a wire, on demand."""

from rpyc_gateway.testing.wire import BadWire as BadWire

__all__ = ["BadWire"]
