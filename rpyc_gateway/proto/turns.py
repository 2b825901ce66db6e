"""Who sends the next frame of data: class by class, and in turn within a class."""

from __future__ import annotations

from collections import deque

from rpyc_gateway.proto.frames import CircuitClass
from rpyc_gateway.proto.stream import Stream

GUARD = 15  # turns in a row that go to others while the lowest class waits; then it has one


class Turns:
    """Four waiting lines of streams."""

    __slots__ = ("_lines", "_passed_over", "waiting")

    def __init__(self) -> None:
        self._lines: tuple[deque[Stream], ...] = tuple(deque() for _ in CircuitClass)
        self._passed_over = 0  # turns in a row that went to others while a lower class waited
        self.waiting = 0

    def join(self, stream: Stream) -> None:
        """Put a stream at the end of its line, unless it stands there already."""
        if not stream.in_line:
            stream.in_line = True
            self.waiting += 1
            self._lines[stream.kind].append(stream)

    def next(self) -> Stream:
        """Call up the next of those that wait. One that has nothing to send any more has lost its turn: ask again."""
        control, call, normal, bulk = self._lines
        if self._passed_over < GUARD:
            line = control or call or normal or bulk
            alone = line is bulk or len(line) == self.waiting
            self._passed_over = 0 if alone else self._passed_over + 1
        else:
            line = bulk or normal or call or control
            self._passed_over = 0
        self.waiting -= 1
        stream = line.popleft()
        stream.in_line = False
        return stream

    def is_below(self, kind: CircuitClass) -> bool:
        """Whether all that waits is of a lower class than this one."""
        return not any(self._lines[: kind + 1])

    def clear(self) -> None:
        for line in self._lines:
            line.clear()
        self.waiting = 0
