"""The protocol as pure machines: bytes, time and intentions in; events and bytes out. docs/protocol.md is the wire."""
