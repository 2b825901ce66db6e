"""Names for boards after what tells them apart: `pico-{serial}`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rpyc_gateway.proto.frames import valid_name
from rpyc_gateway.transport import Place

__all__ = ["Names", "described", "fields", "name_each", "shape"]

_FIELD = re.compile(r"\{([^{}]*)\}")
LONGEST = 64  # of a node name


def fields(template: str) -> list[str]:
    """Those that stand in braces; none in a plain name."""
    return _FIELD.findall(template)


def shape(template: str) -> str:
    """A name that it could make: whether that is one is whether the rest of it is right."""
    return _FIELD.sub("0", template)


class Names(NamedTuple):
    """Which places have names, and why others have none."""

    places: dict[str, Place]
    problems: list[str]  # in words, of those that have none
    shared: list[str]  # names that several claim


def name_each(
    template: str, places: Sequence[Place], *, kept: Mapping[str, str] = {}, owned: Mapping[str, str] = {}
) -> Names:
    """The places by their names, without those that cannot be told apart.

    `kept` and `owned` have URLs of places by their names: a name that is kept stays while its place is there, whoever else claims it; one that
    is owned is for nobody else.
    """
    claims: dict[str, list[Place]] = {}
    names = Names({}, [], [])
    for place in places:
        lacks = [field for field in fields(template) if not place.about.get(field)]
        name = _fill(template, place)
        if lacks:
            names.problems.append(
                f"{described(place)} has no {' and no '.join(lacks)} to be named by: it is left alone"
            )
        elif not valid_name(name):
            names.problems.append(f"{described(place)} would be {name!r}, which is no node name: it is left alone")
        else:
            claims.setdefault(name, []).append(place)
    for name, claimants in claims.items():
        if len(claimants) == 1 and name not in owned:
            names.places[name] = claimants[0]
            continue
        url = owned.get(name, kept.get(name))
        keeper = next((place for place in claimants if place.url == url), None)
        if keeper is not None:
            names.places[name] = keeper
        if len(claimants) > 1:
            names.shared.append(name)
            outcome = f"{keeper.name} keeps the name" if keeper is not None else "none of them is served"
            told = " and ".join(map(described, claimants))
            names.problems.append(f"{told} would all be {name}: {outcome}; `{{location}}` in the name tells them apart")
        elif keeper is None:
            names.problems.append(
                f"{described(*claimants)} would be {name}, as another was that is gone: it is left alone until this node is started anew"
            )
    return names


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
