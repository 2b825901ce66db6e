"""What a board was given to call: the same number for the same thing, until it is withdrawn."""

from __future__ import annotations

import pytest

from rpyc_gateway.device.codec import Host
from rpyc_gateway.device.lent import Lent, is_function, replaced


class Lamp:
    def switch(self) -> str:
        return "on"


def test_a_function_has_one_number_and_so_has_a_method_that_is_read_again() -> None:
    lent, lamp = Lent(), Lamp()
    assert lent.number_of(print) == lent.number_of(print)
    assert lent.number_of(lamp.switch) == lent.number_of(lamp.switch)
    assert lent[lent.number_of(lamp.switch)]() == "on"


def test_what_was_withdrawn_says_so_and_its_number_is_nobody_elses() -> None:
    lent = Lent()
    number = lent.number_of(len)
    lent.withdraw(len)
    lent.withdraw(len)
    with pytest.raises(ReferenceError, match="has withdrawn"):
        lent[number]()
    assert lent.number_of(len) != number
    with pytest.raises(KeyError):
        lent[99]


def test_functions_are_found_at_any_depth_and_nothing_else_is_changed() -> None:
    found = replaced((1, [print, {"a": (len,)}]), lambda part: Host(7) if is_function(part) else part)
    assert found[1][0].number == found[1][1]["a"][0].number == 7
    assert found[0] == 1
