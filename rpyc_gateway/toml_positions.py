"""Where each key and array item of a TOML text stands, so that a mistake can be named by line and column.

tomllib gives values without places. This finder gives places without values, for text that tomllib has accepted already:
it may therefore be lax about everything that would be an error.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from itertools import accumulate

__all__ = ["Path", "Place", "find_positions"]

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 1; the column counts characters."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' r"|'''.*?'''(?:'{0,2})" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'",
    re.DOTALL,
)
_BARE_VALUE = re.compile(r"[^,\[\]{}#\n]+")


def find_positions(text: str) -> dict[Path, Place]:
    """The place of every path that `tomllib.loads(text)` contains; a table is where its name is met first.

    Raises RecursionError for values nested as deep as tomllib itself refuses. What it gives for text that tomllib
    does not accept is undefined.
    """
    return _Finder(text.replace("\r\n", "\n")).find()


class _Finder:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Path, Place] = {}
        self.lengths: dict[Path, int] = {}
        self.starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]

    def find(self) -> dict[Path, Place]:
        table: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self.found

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`; a name that is an array of tables means its last table."""
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        path: Path = ()
        places = self._key()
        for number, (part, offset) in enumerate(places, 1):
            path = (*path, part)
            self._record(path, offset)
            if is_array and number == len(places):
                self.lengths[path] = self.lengths.get(path, 0) + 1
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
                self._record(path, offset)
        self.at += 2 if is_array else 1
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for part, offset in self._key():
            path = (*path, part)
            self._record(path, offset)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[tuple[str, int]]:
        """A dotted key, and what stands around it: each part with its offset."""
        parts = []
        while True:
            self._skip(_SPACE)
            offset = self.at
            raw = self._skip(_KEY_PART)
            parts.append((_unquoted(raw), offset))
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def _value(self, path: Path) -> None:
        first = self.text[self.at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_BARE_VALUE)

    def _array(self, path: Path) -> None:
        self.at += 1
        index = 0
        self._skip(_BLANK)
        while self.text[self.at] != "]":
            item = (*path, index)
            self._record(item, self.at)
            self._value(item)
            index += 1
            self._skip_separator()
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        self._skip(_BLANK)
        while self.text[self.at] != "}":
            self._pair(path)
            self._skip_separator()
        self.at += 1

    def _skip_separator(self) -> None:
        self._skip(_BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self._skip(_BLANK)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None or (match.end() == self.at and pattern not in (_BLANK, _SPACE)):
            raise ValueError(f"not TOML at offset {self.at}")
        self.at = match.end()
        return match.group()

    def _record(self, path: Path, offset: int) -> None:
        line = bisect_right(self.starts, offset)
        self.found.setdefault(path, (line, offset - self.starts[line - 1] + 1))


def _unquoted(raw: str) -> str:
    if raw[0] == "'":
        return raw[1:-1]
    if raw[0] == '"':
        return str(tomllib.loads(f"key = {raw}")["key"])
    return raw
