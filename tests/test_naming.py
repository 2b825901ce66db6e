"""Boards get names of what tells them apart, and those that nothing tells apart get none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.naming import described, fields, name_each, shape
from rpyc_gateway.proto.frames import valid_name
from rpyc_gateway.transport import Place


def port(name: str, **about: str) -> Place:
    return Place(f"look://{name}", f"/dev/{name}", about)


PICO = port("ttyACM0", serial="E66", location="1-1")
OTHER = port("ttyACM1", serial="E67", location="1-2")


def test_each_has_a_name_of_its_own() -> None:
    assert name_each("pico-{serial}", [PICO, OTHER]) == ({"pico-E66": PICO, "pico-E67": OTHER}, [], [])
    assert name_each("{location}.{serial}", [PICO]).places == {"1-1.E66": PICO}
    assert (fields("{location}.{serial}"), shape("{location}.{serial}"), fields("pico")) == (
        ["location", "serial"],
        "0.0",
        [],
    )


def test_what_is_not_allowed_in_a_name_is_replaced() -> None:
    odd = port("ttyACM2", serial="_a b/ü:1", location="1-1:1.0")
    assert list(name_each("p-{serial}", [odd]).places) == ["p-_a-b-1"]
    assert list(name_each("{serial}-{location}", [odd]).places) == ["a-b-1-1-1-1.0"]


@given(st.text(max_size=100))
def test_whatever_a_device_calls_itself_it_gets_a_valid_name_or_none(serial: str) -> None:
    for template in ("{serial}", "p-{serial}"):
        named, problems, _ = name_each(template, [port("tty", serial=serial)])
        assert len(named) + len(problems) == 1
        assert all(map(valid_name, named))


def test_those_of_one_name_are_not_served_and_both_are_told() -> None:
    clones = [port("ttyUSB0", location="1-1", serial="1"), port("ttyUSB1", location="1-2", serial="1")]
    named, problems, shared = name_each("c-{serial}", [*clones, PICO])
    assert (named, shared) == ({"c-E66": PICO}, ["c-1"])
    assert problems == [
        "/dev/ttyUSB0 (serial number 1, at 1-1) and /dev/ttyUSB1 (serial number 1, at 1-2) would all be c-1: "
        "none of them is served; `{location}` in the name tells them apart"
    ]


def test_one_that_is_served_keeps_its_name() -> None:
    clones = [port("ttyUSB0", location="1-1", serial="1"), port("ttyUSB1", location="1-2", serial="1")]
    named, (problem,), _ = name_each("c-{serial}", clones, kept={"c-1": clones[1].url})
    assert named == {"c-1": clones[1]}
    assert "/dev/ttyUSB1 keeps the name" in problem
    assert name_each("c-{serial}", clones, kept={"c-1": PICO.url}).places == {}
    assert name_each("c-{serial}", clones[:1], kept={"c-1": clones[1].url}).places == {"c-1": clones[0]}  # it has moved


def test_a_name_that_is_owned_is_for_nobody_else() -> None:
    clones = [port("ttyUSB0", location="1-1", serial="1"), port("ttyUSB1", location="1-2", serial="1")]
    owned = {"c-1": clones[1].url}
    assert name_each("c-{serial}", clones[1:], owned=owned).places == {"c-1": clones[1]}
    assert name_each("c-{serial}", clones, owned=owned).places == {"c-1": clones[1]}
    named, (problem,), _ = name_each("c-{serial}", clones[:1], owned=owned)
    assert named == {}
    assert problem.startswith("/dev/ttyUSB0 (serial number 1, at 1-1) would be c-1, as another was that is gone")


@pytest.mark.parametrize(("template", "lack"), [("{serial}", "serial"), ("{serial}-{vid}", "serial and no vid")])
def test_one_that_lacks_what_it_would_be_named_by_is_left_alone(template: str, lack: str) -> None:
    named, problems, _ = name_each(template, [port("ttyUSB0", product="USB Serial")])
    assert (named, problems) == ({}, [f"/dev/ttyUSB0 (USB Serial) has no {lack} to be named by: it is left alone"])


def test_places_for_people() -> None:
    assert described(PICO, port("ttyS0")) == "/dev/ttyACM0 (serial number E66, at 1-1); /dev/ttyS0"
