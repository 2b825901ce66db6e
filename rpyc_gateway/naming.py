"""Names for boards after what tells them apart: `pico-{serial}`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rpyc_gateway.proto.frames import valid_name
from rpyc_gateway.transport import Place

__all__ = ["described", "fields", "name_each", "shape"]

_FIELD = re.compile(r"\{([^{}]*)\}")
LONGEST = 64  # of a node name


def fields(template: str) -> list[str]:
    """Those that stand in braces; none in a plain name."""
    return _FIELD.findall(template)


def shape(template: str) -> str:
    """A name that it could make: whether that is one is whether the rest of it is right."""
    return _FIELD.sub("0", template)


def name_each(template: str, places: Sequence[Place], kept: Mapping[str, Place]) -> tuple[dict[str, Place], list[str]]:
    """The places by their names, without those that cannot be told apart; and what is wrong with these, in words.

    One that is `kept` under its name keeps it while it is there, whoever else claims it.
    """
    claims: dict[str, list[Place]] = {}
    problems: list[str] = []
    for place in places:
        lacks = [field for field in fields(template) if not place.about.get(field)]
        name = _fill(template, place)
        if lacks:
            problems.append(f"{described(place)} has no {' and no '.join(lacks)} to be named by: it is left alone")
        elif not valid_name(name):
            problems.append(f"{described(place)} would be {name!r}, which is no node name: it is left alone")
        else:
            claims.setdefault(name, []).append(place)
    named: dict[str, Place] = {}
    for name, several in claims.items():
        keeper = (
            several[0] if len(several) == 1 else next((place for place in several if place == kept.get(name)), None)
        )
        if keeper is not None:
            named[name] = keeper
        if len(several) > 1:
            outcome = f"{keeper.name} keeps the name" if keeper is not None else "none of them is served"
            claimants = " and ".join(map(described, several))
            problems.append(f"{claimants} would all be {name}: {outcome}; `{{location}}` in the name tells them apart")
    return named, problems


def _fill(template: str, place: Place) -> str:
    name = _FIELD.sub(lambda field: re.sub(r"[^A-Za-z0-9._-]+", "-", place.about.get(field[1], "")), template)
    return name.lstrip("._-")[:LONGEST]


def described(*places: Place) -> str:
    """Places for people: `/dev/ttyACM0 (serial number E6614C77)`."""
    return "; ".join(map(_described, places))


def _described(place: Place) -> str:
    about: Iterable[str] = (
        place.about.get("product", ""),
        f"serial number {place.about['serial']}" if place.about.get("serial") else "",
        f"at {place.about['location']}" if place.about.get("location") else "",
    )
    told = ", ".join(filter(None, about))
    return f"{place.name} ({told})" if told else place.name
