"""The services that every node has, and what a configuration may say of them."""

from __future__ import annotations

from typing import Any

import trio

from rpyc_gateway import open_node
from rpyc_gateway.built_in import built_in
from rpyc_gateway.config import Config
from rpyc_gateway.serving import Offer


async def offers(*serve: dict[str, Any]) -> dict[str, Offer]:
    config, problems = Config.read({"node": {"name": "lab"}, "serve": serve})
    assert config is not None, problems
    async with open_node(config) as node, trio.open_nursery() as nursery:
        return built_in(config, node, nursery)


async def test_unasked_a_node_tells_everybody_what_it_knows_and_lets_nobody_in() -> None:
    allowed = {name: offer.allow for name, offer in (await offers()).items()}
    assert allowed == {"classic": (), "node": ("*",), "dial": ("parent",)}


async def test_a_configuration_says_who_may_what_and_where_it_runs() -> None:
    served = await offers(
        {"service": "classic", "allow": ("uid:7",), "pickle": True, "runs": "trio"},
        {"service": "node", "allow": ("uid:7",)},
    )
    assert {name: offer.allow for name, offer in served.items()} == {
        "classic": ("uid:7",),
        "node": ("uid:7",),
        "dial": ("parent",),
    }
    assert [name for name, offer in served.items() if offer.pickle] == ["classic"]
    assert served["classic"].runs == "trio"
    assert served["node"].runs == "threads"
