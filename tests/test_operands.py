"""What is implemented in C gets the real thing for a proxy of plain data, and only that."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from rpyc_gateway.classes import SLOTS, RemoteObject, describe
from rpyc_gateway.errors import EncodeError, NotExposed
from rpyc_gateway.held import Held
from rpyc_gateway.operands import localised, plain_base, run_binary
from rpyc_gateway.proto.copies import BASE
from rpyc_gateway.proto.messages import Verb


class Items(list[Any]):
    pass


class Peer:
    """Has the original of one proxy, and notes what it is asked."""

    peer_vat = b"v" * 16
    drop = staticmethod(id)

    def __init__(self, original: Any, refusal: Exception | None = None) -> None:
        self.original = original
        self.refusal = refusal
        self.asked: list[Any] = []
        self.held = Held(self, 1, describe(original), None, None)  # type: ignore[arg-type]

    def ask(self, number: int, steps: Sequence[Any]) -> Any:
        self.asked += steps
        if self.refusal is not None:
            raise self.refusal
        return type(self.original).__mro__[-2](self.original)

    @property
    def proxy(self) -> Any:
        proxy = type("Proxy", (RemoteObject,), {"__slots__": SLOTS, "__iter__": lambda _self: iter(self.original)})()
        object.__setattr__(proxy, "__gw_held__", self.held)
        return proxy


@pytest.mark.parametrize("original", [[2], Items([2])], ids=["exact", "derived"])
def test_a_method_written_in_c_gets_the_real_thing(original: Any) -> None:
    peer = Peer(original)
    assert run_binary("__add__", [1], [peer.proxy]) == [1, 2]
    assert peer.asked == [(Verb.COPY, 0, BASE)]


def test_a_method_written_in_python_gets_the_proxy() -> None:
    class Keeper:
        def __add__(self, other: object) -> object:
            return other

    peer = Peer([2])
    proxy = peer.proxy
    assert run_binary("__add__", Keeper(), [proxy]) is proxy
    assert run_binary("__eq__", object(), [proxy]) is NotImplemented
    assert peer.asked == []


def test_what_is_no_plain_data_stays_a_proxy_unasked() -> None:
    for original in (Peer([]), type("Unknown", (), {})):
        peer = Peer(original)
        proxy = peer.proxy
        assert localised(proxy) is proxy
        assert peer.asked == []
    assert localised(5) == 5


def test_a_class_that_is_known_here_is_itself() -> None:
    """`int | None`: the operator of types takes no proxies."""
    peer = Peer(list)
    assert localised(peer.proxy) is list
    assert peer.asked == []


def test_a_set_of_objects_is_built_from_its_proxies() -> None:
    assert localised(Peer({1, 2}, EncodeError("its keys are objects")).proxy) == {1, 2}
    assert localised(Peer([1, 2], EncodeError("it is very long")).proxy) == [1, 2]
    with pytest.raises(EncodeError, match="its zone"):
        localised(Peer(Decimal(1), EncodeError("its zone")).proxy)


def test_what_a_policy_hides_stays_a_proxy() -> None:
    proxy = Peer(Items([1]), NotExposed("no")).proxy
    assert localised(proxy) is proxy


def test_a_derived_class_with_its_own_idea_is_asked_first() -> None:
    class Base:
        def __sub__(self, _other: object) -> str:
            return "base"

        def __lt__(self, _other: object) -> str:
            return "less"

    class Derived(Base):
        def __rsub__(self, _other: object) -> Any:
            return "derived"

        def __gt__(self, _other: object) -> Any:
            return NotImplemented

    assert run_binary("__sub__", Base(), [Derived()]) == "derived"
    assert run_binary("__sub__", Base(), [Base()]) == "base"
    assert run_binary("__lt__", Base(), [Derived()]) == "less"
    assert run_binary("__sub__", 1, [2]) == -1


def test_a_method_that_is_not_there_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'object' object has no __add__"):
        run_binary("__add__", object(), [1])
    with pytest.raises(TypeError, match="'list' object has no __or__"):
        run_binary("__or__", [], [1])  # the class has one, for unions
    assert run_binary("__or__", {1}, [[1]]) is NotImplemented


def test_classes_are_plain_by_the_name_of_an_ancestor() -> None:
    assert plain_base(describe(Items())) is list
    assert plain_base(describe(Decimal(1))) is Decimal
    assert plain_base(describe(Peer([]))) is None
