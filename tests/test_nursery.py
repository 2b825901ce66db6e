"""A nursery around somebody else's body."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.house import running


async def test_what_the_body_raises_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    async def fail() -> None:
        async with running("lab"), running("hq", "memory://lab") as hq:
            await hq.wait_route("lab")
            async with hq.session("lab", service="greeter"):
                raise FileNotFoundError("mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        await fail()
