"""What a program prints before the link begins: banners, the message of the day, a prompt. Bytes in; text and the link's own bytes out."""

from __future__ import annotations

from rpyc_gateway.transport import GREETING

__all__ = ["Preamble"]

HELD = 7  # bytes at the end of what came that may be the beginning of a greeting of 8
QUOTED = 300  # bytes of it that are kept for an error


class Preamble:
    """Finds the greeting in what comes. `found` stays true from then on, and everything is the link's."""

    __slots__ = ("_held", "_quoted", "found", "size")

    def __init__(self) -> None:
        self.found = False
        self.size = 0  # bytes that were no link's
        self._quoted = b""
        self._held = b""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """What of it is text for people, and what is the link's. A few bytes are held back while nobody can tell."""
        if self.found:
            return b"", data
        data = self._held + data
        greeting = GREETING.search(data)
        if greeting is None:
            end = max(0, len(data) - HELD)
        else:
            end = greeting.start()
            self.found = True
        text, rest = data[:end], data[end:]
        self.size += len(text)
        self._quoted += text[: QUOTED - len(self._quoted)]
        if self.found:
            self._held = b""
            return text, rest
        self._held = rest
        return text, b""

    def rest(self) -> bytes:
        """Nothing more will come: what was held back is text, too."""
        rest, self._held = self._held, b""
        self.size += len(rest)
        self._quoted += rest[: QUOTED - len(self._quoted)]
        return rest

    @property
    def beginning(self) -> str:
        """How it began, for people; "" if nothing came before the link."""
        return (self._quoted + self._held)[:QUOTED].decode(errors="replace").strip()
