"""What programs print, cut into lines that are fit for a log."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["LONGEST_LINE", "Lines"]

LONGEST_LINE = 1000  # the rest of a line is dropped: it may go on for ever


class Lines:
    """Cuts bytes into lines that are fit for a log: bounded, and with nothing in them that a terminal would obey."""

    def __init__(self) -> None:
        self._line = bytearray()

    def split(self, data: bytes | bytearray) -> Iterator[str]:
        *ended, begun = data.split(b"\n")
        for part in ended:
            self._add(part)
            yield from self.rest()
        self._add(begun)

    @property
    def unfinished(self) -> str:
        """The line that has not ended: a question, perhaps."""
        return _harmless(self._line)

    def rest(self) -> Iterator[str]:
        text = self.unfinished
        self._line.clear()
        if text:
            yield text

    def _add(self, part: bytes | bytearray) -> None:
        self._line += part[: LONGEST_LINE + 1 - len(self._line)]


def _harmless(line: bytearray) -> str:
    text = line[:LONGEST_LINE].decode(errors="replace").rstrip()
    if len(line) > LONGEST_LINE:
        text += "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
