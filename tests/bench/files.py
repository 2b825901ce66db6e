"""Files to be copied by the rows, and what has become of them."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

SMALL = 2000  # bytes of each of many files


class Files:
    """A directory for one client, where TMPDIR says: on a disk, that is in the figures."""

    def __init__(self) -> None:
        self._directory = TemporaryDirectory(prefix="bench-")
        self._place = Path(self._directory.name)
        self._numbers = itertools.count()
        self._targets: list[Path] = []

    def large(self, size: int) -> str:
        """A file of so many bytes."""
        path = self._place / f"large{size}"
        if not path.exists():
            path.write_bytes(os.urandom(size))
        return str(path)

    def many(self, count: int) -> str:
        """A directory of so many small files."""
        path = self._place / f"many{count}"
        if not path.exists():
            path.mkdir()
            for number in range(count):
                (path / f"{number}.bin").write_bytes(os.urandom(SMALL))
        return str(path)

    def target(self) -> str:
        """A path where nothing is."""
        self._targets.append(self._place / f"target{next(self._numbers)}")
        return str(self._targets[-1])

    def check(self, source: str, target: str) -> None:
        """Raise AssertionError if something is missing. That contents are the same is tested elsewhere: here it would take its time."""
        assert _sizes(source) == _sizes(target)

    def tidy(self) -> None:
        """Remove what was copied."""
        for target in self._targets:
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        self._targets.clear()

    def close(self) -> None:
        """Remove everything."""
        self._directory.cleanup()


def _sizes(path: str) -> dict[str, int]:
    if not os.path.isdir(path):
        return {"": os.stat(path).st_size}
    return {entry.name: entry.stat().st_size for entry in os.scandir(path)}
