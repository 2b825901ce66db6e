"""What a node decides about an OPEN: who asks, where it goes, whether it may."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from rpyc_gateway.admission import permitted
from rpyc_gateway.config import Relay
from rpyc_gateway.errors import (
    Code,
)
from rpyc_gateway.proto.frames import Stamp
from tests.house import refusal, running
from tests.raw_peer import RawPeer


async def test_the_origin_is_stamped_and_what_a_client_claims_is_dropped(autojump_clock: MockClock) -> None:
    claim = (Stamp("hq", "root", "uid:0"),)
    async with running("relay") as relay, running("hq", "memory://relay"):
        async with (
            RawPeer("lab").link("memory://relay") as lab,
            RawPeer("user", kind="client").link("memory://hq") as user,
        ):
            await relay.wait_route("lab")
            user.open("lab", via=("relay",), origin=claim, path=("root", "elsewhere"), hops=255)
            await lab.wait(lambda peer: peer.ears)
            request = lab.ears[0].request
            assert request is not None
            assert request.origin == (Stamp("hq", "user", ""), Stamp("relay", "hq", ""))
            assert request.path == ("user", "hq", "relay")
            assert request.hops == 14


async def test_a_neighbour_that_is_a_node_vouches_for_who_came_before(autojump_clock: MockClock) -> None:
    async with (
        running("hq") as hq,
        RawPeer("lab").link("memory://hq") as lab,
        RawPeer("relay").link("memory://hq") as relay,
    ):
        await hq.wait_route("lab")
        relay.open("lab", origin=(Stamp("relay", "user", "uid:7"),), path=("user", "relay"))
        await lab.wait(lambda peer: peer.ears)
        request = lab.ears[0].request
        assert request is not None
        assert request.origin == (Stamp("relay", "user", "uid:7"), Stamp("hq", "relay", ""))


@pytest.mark.parametrize(
    ("request_", "text"),
    [({"hops": 0}, "hop limit"), ({"path": ("user", "hq", "relay")}, "user -> hq -> relay -> hq")],
)
async def test_a_circuit_that_goes_in_circles_is_refused(
    autojump_clock: MockClock, request_: dict[str, object], text: str
) -> None:
    async with running("hq") as hq, RawPeer("lab").link("memory://hq"), RawPeer("relay").link("memory://hq") as relay:
        await hq.wait_route("lab")
        failure = refusal(await relay.open("lab", **request_).wait_end())
        assert (failure.code, failure.hop) == (Code.LOOP, "hq")
        assert text in failure.text


async def test_a_gateway_relays_for_those_its_configuration_names(autojump_clock: MockClock) -> None:
    async with running("hq", relay=Relay(allow=("uid:1000",))) as hq, RawPeer("lab").link("memory://hq"):
        await hq.wait_route("lab")
        async with RawPeer("user", kind="client").link("memory://hq") as user:
            failure = refusal(await user.open("lab").wait_end())
            assert (failure.code, failure.hop, failure.text) == (Code.DENIED, "hq", "hq does not relay for user")


def test_a_parent_is_believed_about_its_own_parent_and_nobody_else_is() -> None:
    mine, mine_too = Stamp("lab", "relay", "parent"), Stamp("relay", "user", "parent")
    stranger = Stamp("relay", "user", "")
    assert permitted(("parent",), (mine,))
    assert permitted(("parent",), (mine_too, mine))
    assert not permitted(("parent",), (stranger, mine))
    assert not permitted(("parent",), (mine, Stamp("lab", "relay", "")))
    assert not permitted(("uid:0",), (mine_too, mine))
    assert not permitted((), (mine,))
