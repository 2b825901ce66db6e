"""Sections: read-only values made from tables, and every mistake in one at once."""

from __future__ import annotations

import copy
from typing import Literal

import pytest

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.sections import Section, array, choice, flag, key, optional, table, text


class Port(Section):
    """A table."""

    number: str = key(text())
    open: bool = key(flag, default=False)


class House(Section):
    """A table of tables."""

    name: str = key(text(), default_factory=lambda: "house")
    owner: str | None = key(optional(text()), default=None)
    colour: Literal["red", "green", "blue"] = key(choice(Literal["red", "green", "blue"]), default="red")
    ports: tuple[Port, ...] = key(array(table(Port)), default=())


def test_what_is_left_out_has_its_default_and_what_was_said_is_known() -> None:
    house = House(owner="lucy")
    assert (house.name, house.owner, house.colour, house.ports) == ("house", "lucy", "red", ())
    assert house.given == {"owner"}


def test_tables_and_arrays_become_sections_and_tuples() -> None:
    house = House(ports=[{"number": "one"}, Port(number="two", open=True)])
    assert house.ports == (Port(number="one"), Port(number="two", open=True))
    assert repr(house.ports[0]) == "Port(number='one', open=False)"


def test_all_that_is_wrong_is_told_at_once_with_its_path() -> None:
    made, problems = House.read(
        {"owner": 1, "colour": "pink", "ports": [{"open": "no"}, 3, {"number": "x", "numer": "x"}], "roof": 1}
    )
    assert made is None
    assert dict(problems) == {
        ("owner",): "must be a string, not 1",
        ("colour",): "must be 'red', 'green' or 'blue', not 'pink'",
        ("ports", 0, "number"): "is required",
        ("ports", 0, "open"): "must be true or false, not 'no'",
        ("ports", 1): "must be a table, not 3",
        ("ports", 2, "numer"): "unknown key, did you mean `number`? (known: number, open)",
        ("roof",): "unknown key (known: name, owner, colour, ports)",
    }
    with pytest.raises(ConfigError, match=r"^ports\[0\]\.number: is required$"):
        House(ports=({},))


@pytest.mark.parametrize(
    ("ports", "told"),
    [({}, "ports: is an array of tables: write [[ports]]"), ("x", "ports: must be an array, not 'x'"), (None, "None")],
)
def test_what_is_no_array_is_told(ports: object, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        House(ports=ports)
    assert told in str(caught.value)


def test_a_section_of_another_kind_is_no_table_of_this_one() -> None:
    with pytest.raises(ConfigError, match=r"^ports\[0\]: must be a table, not House"):
        House(ports=(House(),))


def test_a_section_is_read_only() -> None:
    house = House()
    with pytest.raises(AttributeError, match="read only"):
        house.name = "hut"
    with pytest.raises(AttributeError, match="read only"):
        del house.name
    assert house.but(name="hut").name == "hut"
    assert house.name == "house"


def test_equal_sections_are_one_in_a_set_whatever_was_said_of_them() -> None:
    assert {House(), House(name="house"), House(name="hut")} == {House(), House(name="hut")}
    assert House() != Port(number="1")


def test_a_section_can_be_copied() -> None:
    house = House(ports=[{"number": "one"}])
    assert copy.deepcopy(house) == house
    assert copy.copy(house).given == {"ports"}
