"""Who sends the next frame of data: class by class, and in turn within a class."""

from __future__ import annotations

from collections import deque

from rpyc_gateway.proto.frames import CircuitClass
from rpyc_gateway.proto.stream import Stream

GUARD = 16  # one turn of so many goes to the lowest class that waits


class Turns:
    """Four waiting lines of streams."""

    __slots__ = ("_lines", "_since_guard", "waiting")

    def __init__(self) -> None:
        self._lines: tuple[deque[Stream], ...] = tuple(deque() for _ in CircuitClass)
        self._since_guard = 0
        self.waiting = 0

    def join(self, stream: Stream) -> None:
        """Put a stream at the end of its line, unless it stands there already."""
        if not stream.in_line:
            stream.in_line = True
            self.waiting += 1
            self._lines[stream.kind].append(stream)

    def next(self) -> Stream:
        """Call up the next of those that wait. One that has nothing to send any more has lost its turn: ask again."""
        self.waiting -= 1
        self._since_guard += 1
        if self._since_guard < GUARD:
            control, call, normal, bulk = self._lines
        else:
            self._since_guard = 0
            bulk, normal, call, control = self._lines
        stream = (control or call or normal or bulk).popleft()
        stream.in_line = False
        return stream

    def is_below(self, kind: CircuitClass) -> bool:
        """Whether all that waits is of a lower class than this one."""
        return not any(self._lines[: kind + 1])

    def clear(self) -> None:
        for line in self._lines:
            line.clear()
        self.waiting = 0
