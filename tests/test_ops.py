"""What has no spelling in trio code."""

from __future__ import annotations

import pytest

import rpyc_gateway as gw
from tests.house import open_lab


async def test_what_has_no_spelling_in_trio_code_is_in_ops() -> None:
    async with open_lab() as lab:
        table = await lab.eval("{'a': 1}")
        await gw.ops.setitem(table, "b", 2)
        assert await gw.ops.len(table) == 2
        assert await gw.ops.contains(table, "b") is True
        await gw.ops.delitem(table, "a")
        assert await gw.ops.repr(table) == "{'b': 2}"
        thing = await lab.eval("type('Thing', (), {})()")
        await gw.ops.setattr(thing, "x", 5)
        assert await thing.x == 5
        await gw.ops.delattr(thing, "x")
        with pytest.raises(AttributeError):
            await thing.x
