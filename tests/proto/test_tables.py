"""Counts of what is lent and held. A reference is counted by the message it comes with, and given back once."""

from __future__ import annotations

import gc
import itertools
import weakref
from types import BuiltinMethodType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proto.tables import HEARD, Classes, Exports, Imports


class Thing:
    """Something that is lent, or the holder of something borrowed."""


def exports(*, root: object = None, limit: int = 1000, first: int = 1) -> Exports:
    return Exports(root, itertools.count(first), limit)


# -- exports ------------------------------------------------------------------------------------------------------------


def test_an_object_keeps_its_number_while_anybody_holds_it() -> None:
    table, thing, other = exports(), Thing(), Thing()
    assert [table.introduce(thing), table.introduce(other), table.introduce(thing)] == [1, 2, 1]
    assert table.resolve(1) is thing
    assert table.release(1, 1) is None
    assert table.resolve(1) is thing
    assert table.release(1, 1) is thing
    with pytest.raises(ProtocolError, match="does not hold"):
        table.resolve(1)


def test_a_number_is_never_used_again() -> None:
    table, thing = exports(), Thing()
    table.release(table.introduce(thing), 1)
    assert table.introduce(thing) == 2


def test_equal_objects_are_two() -> None:
    table = exports()
    assert table.introduce([]) != table.introduce([])


def test_the_root_has_number_nought_and_is_not_counted() -> None:
    root = Thing()
    table = exports(root=root)
    assert table.resolve(0) is root
    assert len(table) == 0
    with pytest.raises(ProtocolError):
        table.release(0, 1)


@pytest.mark.parametrize(("number", "count"), [(1, 3), (1, 0), (1, -1), (2, 1)])
def test_more_cannot_be_given_back_than_is_held(number: int, count: int) -> None:
    table, thing = exports(), Thing()
    table.introduce(thing)
    table.introduce(thing)
    with pytest.raises(ProtocolError, match="are held"):
        table.release(number, count)


def test_the_number_of_objects_is_bounded_and_nothing_changes_beyond() -> None:
    table, thing = exports(limit=1), Thing()
    table.introduce(thing)
    with pytest.raises(LimitExceeded):
        table.introduce(Thing())
    assert table.introduce(thing) == 1
    assert len(table) == 1


def test_the_end_gives_every_object_back_to_be_dropped() -> None:
    thing = Thing()
    table = exports(root=Thing())
    table.introduce(thing)
    assert table.clear() == [thing]
    assert len(table) == 0
    assert table.resolve(0) is None


# -- imports ------------------------------------------------------------------------------------------------------------


def test_one_object_has_one_live_holder() -> None:
    table = Imports()
    holder = table.adopt(7, Thing)
    assert table.adopt(7, Thing) is holder
    assert table.adopt(8, Thing) is not holder
    assert table.take_dropped() == [(8, 1)]
    assert len(table) == 1


def test_a_holder_gives_back_what_it_has_seen_when_it_dies() -> None:
    table = Imports()
    holder = table.adopt(7, Thing)
    for _ in range(2):
        table.adopt(7, Thing)
    del holder
    assert table.take_dropped() == [(7, 3)]
    assert table.take_dropped() == []
    assert len(table) == 0


def test_a_finalizer_runs_no_line_of_python() -> None:
    """A KeyboardInterrupt in one would be printed and forgotten, and the program would run on."""
    table = Imports()
    holder = table.adopt(7, Thing)
    (handle,) = weakref.getweakrefs(holder)
    assert isinstance(handle.__callback__, BuiltinMethodType)


def test_a_new_introduction_may_cross_the_release_of_the_old_holder() -> None:
    table = Imports()
    table.adopt(7, Thing)  # dies at once; nobody has taken what it dropped
    holder = table.adopt(7, Thing)
    assert table.take_dropped() == [(7, 1)]
    assert table.adopt(7, Thing) is holder
    del holder
    assert table.take_dropped() == [(7, 2)]


def test_a_holder_in_a_cycle_is_given_back_by_the_collector() -> None:
    table = Imports()
    holder = table.adopt(7, Thing)
    holder.me = holder  # type: ignore[attr-defined]
    del holder
    gc.collect()
    assert table.take_dropped() == [(7, 1)]


@given(st.lists(st.sampled_from(["lend", "drop", "flush", "deliver"]), max_size=40))
def test_lender_and_borrower_agree_whatever_crosses(steps: list[str]) -> None:
    """Introductions travel one way and releases the other; in the end nothing is held and nothing is owed."""
    lender, table, thing = exports(), Imports(), Thing()
    holders: list[Thing] = []
    coming: list[int] = []
    going: list[tuple[int, int]] = []
    for step in [*steps, "deliver", "drop", "flush", "deliver"]:
        if step == "lend":
            coming.append(lender.introduce(thing))
        elif step == "drop":
            holders.clear()
        elif step == "flush":
            going += table.take_dropped()
        else:
            holders += [table.adopt(number, Thing) for number in coming]
            coming.clear()
            for number, count in going:
                assert lender.resolve(number) is thing
                lender.release(number, count)
            going.clear()
    holders.clear()
    for number, count in table.take_dropped():
        lender.release(number, count)
    assert len(lender) == 0
    assert len(table) == 0


# -- classes ------------------------------------------------------------------------------------------------------------

ADC = ClassInfo(module="lab", name="Adc")
DAC = ClassInfo(module="lab", name="Dac")


def test_a_class_is_described_once_before_it_is_used() -> None:
    classes, told = Classes(), []
    assert [classes.tell(info, told.append) for info in (ADC, DAC, ADC)] == [1, 2, 1]
    assert told == [1, 2]


def test_a_class_that_cannot_be_described_has_no_number() -> None:
    classes: Classes = Classes()
    told: list[int] = []

    def fail(_number: int) -> None:
        raise LimitExceeded("too long")

    with pytest.raises(LimitExceeded):
        classes.tell(ADC, fail)
    assert classes.tell(DAC, told.append) == 1
    assert classes.tell(ADC, told.append) == 2


def test_the_lower_bound_of_the_two_sides_counts_for_what_is_told() -> None:
    classes, told = Classes(limit=3), []
    classes.limit_told(1)
    classes.tell(ADC, told.append)
    with pytest.raises(LimitExceeded):
        classes.tell(DAC, told.append)
    classes.hear(1, ADC)
    classes.hear(2, DAC)


def test_what_was_heard_is_known_and_may_be_replaced() -> None:
    classes = Classes(limit=1)
    classes.hear(5, ADC)
    classes.hear(5, DAC)
    assert classes.heard(5) == DAC
    with pytest.raises(LimitExceeded):
        classes.hear(6, ADC)
    with pytest.raises(ProtocolError, match="never described"):
        classes.heard(6)


@pytest.mark.parametrize("where", ["module", "name", "mro", "methods", "special", "closed"])
def test_descriptions_are_bounded_wherever_their_length_is(where: str) -> None:
    classes, long = Classes(), "x" * (HEARD // 4)
    told = {"module": "m", "name": "n", where: long if where in ("module", "name") else (long,)}
    if where == "mro":
        told["mro"] = (("m", long),)
    info = ClassInfo(**told)  # type: ignore[arg-type]
    for number in range(3):
        classes.hear(number, info)
    with pytest.raises(LimitExceeded):
        classes.hear(3, info)
