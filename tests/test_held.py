"""What is held of a peer, whatever face its proxies show."""

from __future__ import annotations

import tracemalloc
import weakref
from types import BuiltinMethodType
from typing import Any

import pytest

from rpyc_gateway.async_proxy import async_proxy
from rpyc_gateway.held import Held, held_by, is_proxy
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proto.tables import Imports
from rpyc_gateway.proxy import blocking_proxy


class Silent:
    peer_vat = b"far" * 5 + b"!"

    def __init__(self) -> None:
        self.died: list[Any] = []
        self.drop = self.died.append


def hold(number: int, vat: bytes | None = None, origin: int | None = None) -> Held:
    return Held(Silent(), number, ClassInfo(module="m", name="C", flags=ClassInfo.IDENTITY), vat, origin)  # type: ignore[arg-type]


def test_there_is_one_live_proxy_for_each_face() -> None:
    held = hold(7)
    proxy, twin = blocking_proxy(held), async_proxy(held)
    assert blocking_proxy(held) is proxy
    assert async_proxy(held) is twin
    assert held_by(proxy) is held_by(twin) is held
    assert is_proxy(proxy)
    assert is_proxy(twin)
    assert not is_proxy(held)


@pytest.mark.parametrize("first", [blocking_proxy, async_proxy])
def test_a_face_that_has_died_is_told_and_the_other_lives_on(first: Any) -> None:
    held = hold(7)
    other = async_proxy if first is blocking_proxy else blocking_proxy
    face, twin = first(held), other(held)
    del face
    assert [handle.number for handle in held.caller.died] == [7]  # type: ignore[attr-defined]
    assert held.shown
    again = first(held)
    assert (first(held), other(held)) == (again, twin)
    assert first(held) is again
    assert other(held) is twin
    del twin, again
    assert not held.shown
    assert [handle.number for handle in held.caller.died] == [7, 7, 7]  # type: ignore[attr-defined]


def test_no_line_of_python_runs_when_a_proxy_dies() -> None:
    """A KeyboardInterrupt in a finalizer would be printed and forgotten, and the program would run on."""
    held = Held(Telling(), 7, ClassInfo(module="m", name="C"), None, None)  # type: ignore[arg-type]
    proxy = blocking_proxy(held)
    (handle,) = weakref.getweakrefs(proxy)
    assert isinstance(handle.__callback__, BuiltinMethodType)


class Telling(Silent):
    def __init__(self) -> None:
        self.drop = Imports().drop


def test_a_live_proxy_costs_few_bytes() -> None:
    """Ten thousand of them are common; each is a proxy, what it holds, a weak hold of it, a number and an entry in a table."""
    imports, kind = Imports(), ClassInfo(module="m", name="C", flags=ClassInfo.IDENTITY)
    caller = Telling()
    blocking_proxy(imports.adopt(999, Held, caller, 999, kind, None, None))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        proxies = [blocking_proxy(imports.adopt(n, Held, caller, n, kind, None, None)) for n in range(1000, 11_000)]
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / len(proxies) <= 300


def test_both_faces_of_one_object_are_equal() -> None:
    held = hold(7)
    assert blocking_proxy(held) == async_proxy(held)
    assert hash(blocking_proxy(held)) == hash(async_proxy(held))


@pytest.mark.parametrize("face", [blocking_proxy, async_proxy])
def test_an_object_met_over_two_paths_is_the_same_by_its_origin(face) -> None:  # type: ignore[no-untyped-def]
    direct = hold(7)
    passed_on = Held(Silent(), 99, direct.info, Silent.peer_vat, 7)  # type: ignore[arg-type]
    assert passed_on.identity == direct.identity
    assert face(passed_on) == face(direct)
    assert face(passed_on) != face(hold(8))
