"""Long bodies beside short messages."""

from __future__ import annotations

import hashlib
from typing import Any

import trio

from tests.house import HOPS, open_lab


@HOPS
async def test_long_bytes_arrive_whole_in_both_directions(hops: int) -> None:
    async with open_lab(hops) as lab:
        blob = bytes(range(256)) * 20_000
        digest = await lab.modules.hashlib.sha256(blob).hexdigest()
        assert digest == hashlib.sha256(blob).hexdigest()
        assert await lab.eval("bytes(range(256)) * 20_000") == blob
        text = "\N{SNOWMAN}" * 100_000
        assert await (await lab.eval("lambda s: s + s"))(text) == text + text
        pieces = await (await lab.eval("lambda *parts: parts"))(blob, b"small", blob)
        assert pieces == (blob, b"small", blob)


@HOPS
async def test_a_message_may_be_longer_than_a_short_frame(hops: int) -> None:
    async with open_lab(hops) as lab:
        pieces = [bytes([number]) * 1000 for number in range(6)]  # together on `call`, not on `bulk`
        assert await (await lab.eval("lambda *parts: parts"))(*pieces) == tuple(pieces)


async def test_a_small_call_does_not_wait_for_a_large_one() -> None:
    async with open_lab() as lab:
        done: list[str] = []

        async def note(name: str, expression: Any) -> None:
            await expression
            done.append(name)

        length = await lab.builtins.len
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "large", length(bytes(40_000_000)))
            await trio.lowlevel.checkpoint()
            for _ in range(5):
                nursery.start_soon(note, "small", length(b"x"))
        assert done == ["small"] * 5 + ["large"]


async def test_the_first_long_body_may_be_an_answer() -> None:
    """The acceptor cannot open the bulk circuit; it asks for it."""
    async with open_lab() as lab:
        assert await lab.eval("b'x' * 100_000") == b"x" * 100_000
