"""Sessions that end at a node: which service, for whom, how many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from trio.testing import MockClock

from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.errors import (
    Denied,
    GatewayError,
    NoService,
)
from rpyc_gateway.gateway import open_node
from rpyc_gateway.service import Service
from rpyc_gateway.serving import Offer
from tests.house import Greeter, refusal, running
from tests.raw_peer import RawPeer


async def test_a_service_that_is_not_served_is_refused_by_name(autojump_clock: MockClock) -> None:
    async with running("lab"), running("hq", "memory://lab") as hq:
        await hq.wait_route("lab")
        with pytest.raises(NoService, match=r"lab does not serve 'dance'.*greeter") as caught:
            async with hq.session("lab", service="dance"):
                pytest.fail("no such service")
        assert caught.value.hop == "lab"
        assert str(caught.value).endswith("(it serves: dial, greeter, node)")  # classic is for nobody: it is not named


@pytest.mark.parametrize(
    ("service", "allowed"), [("classic", r"nobody \(what is served: dial, greeter, node\)"), ("dial", "parent$")]
)
async def test_what_is_powerful_is_not_for_everybody(autojump_clock: MockClock, service: str, allowed: str) -> None:
    async with running("lab"), running("hq", "memory://lab") as hq:
        await hq.wait_route("lab")
        with pytest.raises(Denied, match=f"lab does not let hq use '{service}': it is allowed to {allowed}"):
            async with hq.session("lab", service=service):
                pytest.fail("it should not be served")


async def test_circuits_that_fit_no_session_are_refused(autojump_clock: MockClock) -> None:
    async with running("lab"), RawPeer("user", kind="client").link("memory://lab") as user:
        user.open("lab", service="greeter", token=b"x" * 16)
        for request in (
            {"circuit": "bulk", "token": b"y" * 16},
            {"circuit": "dance"},
            {"token": b"x" * 16},
        ):
            refusal(await user.open("lab", service="greeter", **request).wait_end())


class Broken(Service):
    def on_connect(self, session: object) -> None:
        raise RuntimeError("no such board")


def no_root() -> object:
    raise RuntimeError("no such board")


@pytest.mark.parametrize("root", [Broken, no_root])
async def test_a_service_that_cannot_begin_fails_its_own_session_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, root: Callable[[], object]
) -> None:
    config = Config(node=NodeSection(name="lab"), listen=(Listen(url="memory://lab"),))
    services = {"board": Offer(root, ("*",)), "greeter": Offer(Greeter, ("*",))}
    async with open_node(config, services=services), running("hq", "memory://lab") as hq:
        await hq.wait_route("lab")
        async with hq.session("lab", service="greeter") as session:
            with pytest.raises(GatewayError, match=r"lab could not begin .* RuntimeError: no such board"):
                async with hq.session("lab", service="board"):
                    pytest.fail("it cannot begin")
            assert await session.root.hello("you") == "hello you"
    assert "could not begin" in caplog.text


class Choosy(Service):
    def on_connect(self, session: object) -> None:
        raise Denied("not before noon")


async def test_a_service_may_refuse_a_session_in_its_own_words(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(node=NodeSection(name="lab"), listen=(Listen(url="memory://lab"),))
    async with open_node(config, services={"board": Offer(Choosy, ("*",))}), running("hq", "memory://lab") as hq:
        await hq.wait_route("lab")
        with pytest.raises(Denied, match=r"^not before noon") as caught:
            async with hq.session("lab", service="board"):
                pytest.fail("it was refused")
    assert caught.value.hop == "lab"
    assert "could not begin" not in caplog.text
