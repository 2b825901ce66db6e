"""Where it appears what a board prints, and how far a copy is."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rpyc_gateway.cli.options import harmless

if TYPE_CHECKING:
    import trio

__all__ = ["ERASE", "Bar", "Output"]

ERASE = "\r\x1b[K"
WIDTH = 24  # characters of a bar
REDRAWN = 0.2  # seconds after which a bar is drawn again although its number has not changed: the rate has


class Output:
    """Our standard output and our terminal. When nobody reads it any more the work is cancelled."""

    ended: OSError | None = None
    prompt: Callable[[], str]
    """What stands on the line where somebody is asked something: it is shown again below what comes meanwhile."""

    def __init__(self, scope: trio.CancelScope) -> None:
        """Raises OSError if there is no standard output."""
        if sys.stdout is None:
            raise OSError("standard output is closed: there is nowhere to print to (>/dev/null drops it)")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        self._scope = scope
        self.prompt = str

    def show(self, line: bytes) -> None:
        """A line that a board has printed."""
        self.print(line.decode("utf-8", "replace").rstrip("\r\n") + "\n")

    async def write(self, text: str) -> None:
        """What a node has printed."""
        self.print(text)

    def print(self, text: str) -> None:
        """Text as it is."""
        if prompt := self.prompt():
            text = f"{ERASE}{text.removesuffix(chr(10))}\n{prompt}"
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as exc:
            self.ended = exc
            self._scope.cancel()

    def give(self, data: bytes) -> None:
        """Bytes as they are."""
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
        except OSError as exc:
            self.ended = exc
            self._scope.cancel()

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """A line on a terminal that says how far something is, and goes away; elsewhere nothing."""
        if sys.stderr is None or not sys.stderr.isatty():
            yield lambda _done, _whole: None
            return
        bar = Bar(label)
        try:
            yield bar.show
        finally:
            bar.erase()


class Bar:
    """One line: how much of how many bytes is done, and how fast. `columns` is the width of the terminal."""

    def __init__(self, label: str, *, clock: Callable[[], float] = time.monotonic, columns: int | None = None) -> None:
        self._label = harmless(label)
        self._clock = clock
        self._columns = columns or shutil.get_terminal_size().columns
        self._begun = clock()
        self._drawn_at = self._begun
        self._percent = -1

    def show(self, done: int, whole: int) -> None:
        """So much is done."""
        now = self._clock()
        percent = 100 * done // whole if whole else 100
        if done >= whole:
            self.erase()
        elif percent != self._percent or now - self._drawn_at >= REDRAWN:
            self._percent, self._drawn_at = percent, now
            self._draw(f"\r{self.line(done, whole, now)}\x1b[K")

    def line(self, done: int, whole: int, now: float) -> str:
        """What is shown; no longer than the terminal is wide."""
        percent = 100 * done // whole
        full = WIDTH * done // whole
        passed = now - self._begun
        rate = f", {amount(done / passed)}/s" if passed > 0 else ""
        told = (
            f"{self._label}: {percent} % [{'#' * full}{'.' * (WIDTH - full)}] {amount(done)} of {amount(whole)}{rate}"
        )
        return told[: self._columns - 1]

    def erase(self) -> None:
        """Leave an empty line."""
        if self._percent >= 0:
            self._draw(ERASE)
            self._percent = -1

    @staticmethod
    def _draw(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def amount(count: float) -> str:
    """So many bytes, for people."""
    if count < 1000:
        return f"{count:.0f} B"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
