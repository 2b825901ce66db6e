"""What is held of a peer, whatever face its proxies show."""

from __future__ import annotations

import pytest

from rpyc_gateway.async_proxy import async_proxy
from rpyc_gateway.held import Held, held_by, is_proxy
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proxy import blocking_proxy


class Silent:
    peer_vat = b"far" * 5 + b"!"


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
