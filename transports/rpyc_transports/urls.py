"""URLs with options: `tls://relay:18861?ca=/etc/gw/ca.pem&name=relay`. What is wrong in one, in words for its author."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

__all__ = ["Reader", "flag", "number", "parse", "split", "text"]

Reader: TypeAlias = Callable[[str], Any]
"""Makes a value of an option's text. Raises ValueError with what is wrong, to be read after the option's name."""


def split(url: str) -> tuple[str, dict[str, str]]:
    """What stands before the `?`, and the options behind it, percent-decoded. A later one of the same name wins; see `parse`."""
    place, _, query = url.partition("?")
    return place, dict(parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="surrogateescape"))


def parse(url: str, known: Mapping[str, Reader]) -> tuple[dict[str, Any], list[str]]:
    """The options of a URL by name, those alone that are given, and what is wrong with the rest, one sentence each."""
    _, _, query = url.partition("?")
    values: dict[str, Any] = {}
    return values, list(_read(query, known, values))


def _read(query: str, known: Mapping[str, Reader], values: dict[str, Any]) -> Iterator[str]:
    for name, given in parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="surrogateescape"):
        read = known.get(name)
        if read is None:
            from difflib import get_close_matches  # slow to load, and seldom needed

            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"there is no option {name!r} (known: {', '.join(sorted(known)) or 'none'}){hint}"
        elif name in values:
            yield f"the option {name!r} is given twice"
        else:
            try:
                values[name] = read(given)
            except ValueError as exc:
                yield f"the option {name!r} {exc}"


def text(given: str) -> str:
    """Any text but none."""
    if not given:
        raise ValueError("is empty")
    return given


def number(given: str) -> int:
    """A whole number, not below zero, in decimal digits."""
    if not (given.isascii() and given.isdecimal()):
        raise ValueError(f"is {given!r}, which is no whole number")
    return int(given[:19])


def flag(given: str) -> bool:
    """`1`, `true`, `yes` and `on`, or `0`, `false`, `no` and `off`."""
    try:
        return {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }[given.lower()]
    except KeyError:
        raise ValueError(f"is {given!r}: say 1 or 0") from None
