"""`python -m tests.conformance`: how many rows pass on proxies of ours and on those of RPyC, chapter by chapter.

A row passes if its outcome is the one that local objects give; ours must give it at every distance. Words as arguments show the outcomes of the
rows that contain one of them instead. The exit code is 0 if ours passes all that Python makes possible.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from tests.conformance.bounds import TooLong, bounded
from tests.conformance.chapters import CHAPTERS
from tests.conformance.far import RELAYS, Far, open_far, world
from tests.conformance.known import KNOWN
from tests.conformance.outcomes import outcome
from tests.conformance.rows import Row
from tests.conformance.rpyc_side import RpycSide, open_rpyc
from tests.conformance.worlds import LocalWorld

ROW_SECONDS = 5


def on_ours(row: Row, far: Far, relays: int) -> object:
    """The outcome of a row on a session of ours."""
    return _bounded(row, lambda: world(far.session(relays), row.setup, row.beyond))


def on_rpyc(row: Row, side: RpycSide) -> object:
    """The outcome of a row on a connection of RPyC; one that breaks the connection spoils no other."""
    found = _bounded(row, lambda: side.world(row.setup, row.beyond))
    side.tidy()
    return found


def _bounded(row: Row, make: Callable[[], Any]) -> object:
    try:
        with bounded(ROW_SECONDS):
            return outcome(row.use, make())
    except TooLong:
        return "did not end"
    except Exception as error:  # noqa: BLE001  # its setup did not get through
        return "broke", repr(error)


def show(words: list[str], far: Far, side: RpycSide) -> None:
    """Print the outcomes of some rows."""
    for chapter in CHAPTERS:
        for row in chapter.rows:
            if any(word in str(row) for word in words):
                local = outcome(row.use, LocalWorld(row.setup, row.beyond))
                ours, theirs = on_ours(row, far, 0), on_rpyc(row, side)
                print(f"{row}\n  local {local}\n  ours  {_same(ours, local)}\n  rpyc  {_same(theirs, local)}")


def _same(found: object, local: object) -> object:
    return "the same" if found == local else found


def score(far: Far, side: RpycSide) -> int:
    """Print the table; the number of rows that ours fails without an excuse."""
    print("| chapter | rows | ours | rpyc 6 |\n|---|---:|---:|---:|")
    total = [0, 0, 0]
    unexcused: list[str] = []
    for chapter in CHAPTERS:
        rows = ours = theirs = 0
        for row in chapter.rows:
            local = outcome(row.use, LocalWorld(row.setup, row.beyond))
            passed = all(on_ours(row, far, relays) == local for relays in RELAYS)
            rows += 1
            ours += passed
            theirs += on_rpyc(row, side) == local
            if not passed and str(row) not in KNOWN:
                unexcused.append(str(row))
            gc.collect(0)
        if rows:
            print(f"| {chapter.name} | {rows} | {ours} | {theirs} |", flush=True)
        total = [a + b for a, b in zip(total, (rows, ours, theirs), strict=True)]
    rows, ours, theirs = total
    print(f"| **all** | **{rows}** | **{ours}** ({ours / rows:.1%}) | **{theirs}** ({theirs / rows:.1%}) |")
    for name in unexcused:
        print(f"fails: {name}", file=sys.stderr)
    return len(unexcused)


def main(words: list[str]) -> int:
    """Run, and say whether all is well."""
    with open_far() as far, open_rpyc() as side:
        if words:
            show(words, far, side)
            return 0
        return 1 if score(far, side) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
