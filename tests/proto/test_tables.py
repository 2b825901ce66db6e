"""Counts of what is lent and held. A reference is counted by the message it comes with, and given back once."""

from __future__ import annotations

import gc
import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proto.tables import HEARD, Classes, Exports, Handle, Imports


class Thing:
    """Something that is lent, or stands for something borrowed."""


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


class Holding:
    """What is held of something borrowed; `proxy` stands for what a program has of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.handle: Handle[Thing] | None = None

    @property
    def shown(self) -> bool:
        return self.handle is not None and self.handle() is not None

    def show(self, table: Imports) -> Thing:
        proxy = self.handle() if self.handle is not None else None
        if proxy is None:
            proxy = Thing()
            self.handle = Handle(proxy, table.drop)
            self.handle.number = self.number
        proxy.holding = self  # type: ignore[attr-defined]
        return proxy


def borrow(table: Imports, number: int) -> Thing:
    """A reference comes: a proxy for it."""
    return table.adopt(number, Holding, number).show(table)


def test_one_object_has_one_live_holder() -> None:
    table = Imports()
    proxy = borrow(table, 7)
    assert borrow(table, 7) is proxy
    assert borrow(table, 8) is not proxy
    assert table.take_dropped() == [(8, 1)]
    assert len(table) == 1


def test_a_proxy_gives_back_what_has_come_of_it_when_it_dies() -> None:
    table = Imports()
    proxy = borrow(table, 7)
    for _ in range(2):
        borrow(table, 7)
    assert table.take_dropped() == []
    del proxy
    assert table.take_dropped() == [(7, 3)]
    assert table.take_dropped() == []
    assert len(table) == 0


def test_what_somebody_has_without_a_proxy_is_not_given_back_before_he_is_done_with_it() -> None:
    table = Imports()
    proxy = borrow(table, 7)
    reading = [proxy.holding]  # type: ignore[attr-defined]
    del proxy
    assert table.take_dropped() == table.take_dropped() == []
    reading.clear()
    assert table.take_dropped() == [(7, 1)]


def test_what_never_had_a_proxy_is_given_back_when_it_is_doubted() -> None:
    table = Imports()
    kept = table.adopt(7, Holding, 7)
    table.adopt(8, Holding, 8)
    for number in (7, 8):
        table.doubt(number)
    assert table.take_dropped() == [(8, 1)]
    del kept
    assert table.take_dropped() == [(7, 1)]


def test_many_that_linger_are_looked_at_in_turns_and_none_is_forgotten() -> None:
    table = Imports()
    kept = [table.adopt(number, Holding, number) for number in range(1000)]
    for number in range(1000):
        table.doubt(number)
    assert table.take_dropped() == []
    kept.clear()
    given_back = [pair for _ in range(12) for pair in table.take_dropped()]
    assert sorted(given_back) == [(number, 1) for number in range(1000)]


def test_a_new_introduction_may_cross_the_death_of_the_old_proxy() -> None:
    table = Imports()
    borrow(table, 7)  # dies at once; nobody has taken what it dropped
    proxy = borrow(table, 7)
    assert table.take_dropped() == []
    del proxy
    assert table.take_dropped() == [(7, 2)]


def test_a_proxy_in_a_cycle_is_given_back_by_the_collector() -> None:
    table = Imports()
    proxy = borrow(table, 7)
    proxy.me = proxy  # type: ignore[attr-defined]
    del proxy
    gc.collect()
    assert table.take_dropped() == [(7, 1)]


def test_a_table_that_was_long_gives_its_room_back() -> None:
    table, lender = Imports(), exports(limit=20_000)
    lent = [Thing() for _ in range(10_000)]
    proxies = [borrow(table, lender.introduce(thing)) for thing in lent]
    del proxies[100:]
    for number, count in table.take_dropped():
        lender.release(number, count)
    assert len(table) == len(lender) == 100
    for dictionary in (table._holders, lender.by_number, lender._by_identity):
        assert sys.getsizeof(dictionary) < 100_000
    assert borrow(table, lender.introduce(lent[5])) is proxies[5]


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
            holders += [borrow(table, number) for number in coming]
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
