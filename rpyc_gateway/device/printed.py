"""What a program prints on a board without the agent: its lines, and among them what is said to its front."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

__all__ = ["Asked", "Printed", "Shown"]

LONGEST = 1000  # bytes of a line that is shown
LARGEST = 1 << 20  # bytes of one that is for the front


class Shown(Struct, frozen=True):
    """A line that somebody wants to see."""

    line: bytes


class Asked(Struct, frozen=True):
    """The program calls a function of this side, and reads the answer."""

    call: bytes


Fact: TypeAlias = Shown | Asked


class Printed:
    """What one program prints, line by line. Lines that begin with the mark, after an empty one, are for the front.

    One that goes on with `!` is a call. The last other one is the answer, unless something follows: then it was only printed.
    """

    def __init__(self, mark: bytes) -> None:
        self.echo = b""
        """The line that the board is being told, if it prints what it reads."""
        self._mark = mark
        self._facts: list[Fact] = []
        self._part = b""  # of a line
        self._held: list[bytes] = []  # an empty line and one with the mark, until something follows

    @property
    def answered(self) -> bool:
        """Whether what came last may be the answer."""
        return len(self._held) > 1

    def facts(self) -> list[Fact]:
        """What has been said since the last call."""
        facts, self._facts = self._facts, []
        return facts

    def hear(self, data: bytes) -> None:
        """The next of it."""
        *lines, self._part = (self._part + data).split(b"\n")
        for line in lines:
            self._take(line.removesuffix(b"\r"))
        if len(self._part) > (LARGEST if self._part.startswith(self._mark) else LONGEST):
            self._take(self._part)
            self._part = b""

    def _take(self, line: bytes) -> None:
        if self.echo and line == self.echo:
            self.echo = b""
            return
        marked = line.startswith(self._mark)
        if marked and self._held == [b""]:
            said = line[len(self._mark) :]
            if said.startswith(b"!"):
                self._held = []
                self._facts.append(Asked(said[1:]))
            else:
                self._held.append(line)
            return
        self._tell()
        if line and not marked:
            self._facts.append(Shown(line))
        else:
            self._held = [line]

    def _tell(self) -> None:
        self._facts += map(Shown, self._held)
        self._held = []

    def end(self) -> bytes | None:
        """The answer; None if there is none."""
        if self._part:
            self._take(self._part.removesuffix(b"\r"))
        if self._held and self._held[-1].startswith(self._mark):
            return self._held[-1][len(self._mark) :]
        self._tell()
        return None
