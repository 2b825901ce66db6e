"""The rows of trio code, and `gw.ops`: each function of it is what `operator` or the builtins have under its name."""

from __future__ import annotations

import builtins
import operator
from typing import Any

import pytest

import rpyc_gateway as gw
from rpyc_gateway.async_proxy import AsyncProxy
from rpyc_gateway.classes import described
from tests.conformance.chapters import CHAPTERS
from tests.conformance.far import RELAYS, Far, trio_world
from tests.conformance.known import KNOWN
from tests.conformance.outcomes import outcome, outcome_in_trio, raised, shape
from tests.conformance.rows import AsyncRow
from tests.conformance.worlds import LocalWorld

ROW_SECONDS = 10


def _marked(row: AsyncRow) -> object:
    reason = KNOWN.get(str(row))
    return pytest.param(row, id=str(row), marks=pytest.mark.xfail(reason=reason) if reason else ())


@pytest.mark.parametrize("relays", RELAYS)
@pytest.mark.parametrize("row", [_marked(row) for chapter in CHAPTERS for row in chapter.async_rows])
async def test_row(row: AsyncRow, relays: int, far: Far) -> None:
    local = await outcome_in_trio(row.use, LocalWorld(row.setup), ROW_SECONDS)
    async with far.lent_async(relays) as lab:
        assert await _remotely(row, lab) == local


async def _remotely(row: AsyncRow, lab: Any) -> tuple[object, ...]:
    return await outcome_in_trio(row.use, await trio_world(lab, row.setup), ROW_SECONDS)


THINGS = "from decimal import Decimal; items, table, some, price, walk = [3, 1, 2], {'a': 1}, {1, 2}, Decimal('2.5'), iter('ab')"
UNARY = ("len", "str", "repr", "dir", "abs", "truth", "neg", "next")
BINARY = ("eq", "ne", "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "mod", "contains", "getitem", "delitem")
OPERATIONS = [(name, ()) for name in UNARY] + [(name, (operand,)) for name in BINARY for operand in (1, "a", 2.5, (1,))]


@pytest.mark.parametrize(("name", "operands"), OPERATIONS)
@pytest.mark.parametrize("thing", ["items", "table", "some", "price", "walk"])
async def test_ops_are_those_of_python(name: str, operands: tuple[object, ...], thing: str, far: Far) -> None:
    plain = getattr(operator, name, None) or getattr(builtins, name)
    local = outcome(lambda world: plain(getattr(world, thing), *operands), LocalWorld(THINGS))
    async with far.lent_async(1) as lab:
        assert await _done(lab, name, thing, operands) == _asynchronous(local)


def _asynchronous(found: tuple[object, ...]) -> tuple[object, ...]:
    """An end of an iteration is one of its own kind in asynchronous code."""
    return ("raised", "StopAsyncIteration", ()) if found[:2] == ("raised", "StopIteration") else found


async def _done(lab: Any, name: str, thing: str, operands: tuple[object, ...]) -> tuple[object, ...]:
    names, _ = await lab.namespace["make_names"](THINGS)
    operation = getattr(gw.ops, name)
    try:
        found = await operation(await names[thing], *operands)
        if type(found) is not AsyncProxy:
            return "returned", shape(list(found) if operation is gw.ops.dir else found)
        return "returned", (described(found).name, await gw.ops.repr(found))
    except Exception as error:  # noqa: BLE001  # it is the outcome
        return raised(error)
