"""Programs made by hypothesis, run on local objects and on far ones: operations, callbacks, threads, drops and cancellations, mixed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

import rpyc_gateway as gw
from tests.conformance.far import Far, world
from tests.conformance.outcomes import outcome
from tests.conformance.worlds import LocalWorld

PROGRAMS = settings.default.max_examples // 5
"""Each is many operations over a real session."""

SETUP = """
import threading, time, rpyc_gateway
class Cell:
    def __init__(self, value): self.value = value; self.links = []
    def add(self, n): self.value += n; return self.value
    def link(self, other): self.links.append(other); return len(self.links)
    def linked(self, i): return self.links[i]
    def apply(self, f): return f(self.value)
    def keep(self, f): self.kept = f
    def walk(self, n):
        for i in range(n): yield self.value + i
    def fail(self): raise LookupError(self.value)
    def __enter__(self): self.value += 100; return self
    def __exit__(self, kind, error, traceback): self.value -= 99; return kind is KeyError
    def __add__(self, other): return Cell(self.value + (other.value if isinstance(other, Cell) else other))
    def __len__(self): return abs(self.value) % 7
    def __repr__(self): return f"Cell({self.value})"
def call(f, *args): return f(*args)
def total(cells): return sum(cell.value for cell in cells)
def forever():
    while True:
        rpyc_gateway.checkpoint()
        time.sleep(0.001)
lock, counter = threading.Lock(), Cell(0)
"""

SMALL = st.integers(-50, 50)
PLAIN = st.one_of(SMALL, st.text(max_size=3), st.none(), st.floats(allow_nan=False, width=16), st.tuples(SMALL, SMALL))
LIST_OPERATIONS: dict[str, Callable[[Any, Any], object]] = {
    "append": lambda items, x: items.append(x),
    "extend": lambda items, x: items.extend([x, x]),
    "pop": lambda items, _: items.pop(),
    "index": lambda items, x: items.index(x),
    "contains": lambda items, x: x in items,
    "get": lambda items, x: items[x],
    "set": lambda items, x: items.__setitem__(0, x),
    "delete": lambda items, _: items.__delitem__(0),
    "slice": lambda items, _: items[1:],
    "length": lambda items, _: len(items),
    "list": lambda items, _: list(items),
    "reverse": lambda items, _: items.reverse(),
    "equal": lambda items, x: items == [x],
    "joined": lambda items, x: [x] + items,  # noqa: RUF005  # the operator is what it is about
    "sorted by us": lambda items, _: sorted(items, key=repr),
    "sorted by them": lambda items, _: items.sort(key=lambda one: repr(one)),
    "walk": lambda items, _: [one for one in items if one is not items],
    "missing": lambda items, _: items.nothing,
}
CELL_OPERATIONS: dict[str, Callable[[Any, Any], object]] = {
    "value": lambda cell, _: cell.value,
    "set": lambda cell, x: setattr(cell, "value", x),
    "add": lambda cell, x: cell.add(x),
    "plus": lambda cell, x: cell + x,
    "fail": lambda cell, _: cell.fail(),
    "walk": lambda cell, _: list(cell.walk(3)),
    "walk a little": lambda cell, _: next(cell.walk(3)),
    "apply": lambda cell, x: cell.apply(lambda value: (value, x)),
    "apply and fail": lambda cell, x: cell.apply(lambda value: {}[x]),
    "apply and go back": lambda cell, x: cell.apply(lambda value: cell.add(x)),
    "with": lambda cell, x: _within(cell, KeyError(x)),
    "with another": lambda cell, x: _within(cell, ValueError(x)),
    "length": lambda cell, _: (len(cell), bool(cell)),
    "linked": lambda cell, _: cell.linked(0),
    "text": lambda cell, _: (repr(cell), str(cell)),
    "itself": lambda cell, _: (cell == cell, cell.apply == cell.apply, cell is cell.__enter__()),
    "has": lambda cell, x: (hasattr(cell, "value"), hasattr(cell, f"no {x}")),
    "keep": lambda cell, x: cell.keep(lambda: x),
    "kept": lambda cell, _: cell.kept(),
}


def _within(cell: Any, error: Exception) -> object:
    with cell as inner:
        inner.add(1)
        raise error
    return cell.value


class Objects(RuleBasedStateMachine):
    """Pairs of a local object and a far one, which have gone through the same."""

    far: Far
    relays = 1

    cells, lists = Bundle("cells"), Bundle("lists")

    @initialize()
    def begin(self) -> None:
        self.conn = self.far.session(self.relays)
        self.worlds: Any = LocalWorld(SETUP), world(self.conn, SETUP, "")
        self.pairs: dict[int, Any] = {}

    def _keep(self, make: Callable[[Any], object]) -> int:
        key = max(self.pairs, default=0) + 1
        self.pairs[key] = tuple([make(one) for one in self.worlds])
        return key

    def _same(self, use: Callable[..., object], *keys: int) -> None:
        chosen = [self.pairs[key] for key in keys]
        local, far = (outcome(lambda parts: use(*parts), parts) for parts in zip(*chosen, strict=True))
        assert far == local

    @rule(target=cells, value=SMALL)
    def new_cell(self, value: int) -> int:
        return self._keep(lambda one: one.Cell(value))

    @rule(target=lists, items=st.lists(PLAIN, max_size=3))
    def new_list(self, items: list[object]) -> int:
        return self._keep(lambda one: _list_of(one, items))

    @rule(cell=cells, name=st.sampled_from(sorted(CELL_OPERATIONS)), value=PLAIN)
    def use_a_cell(self, cell: int, name: str, value: object) -> None:
        self._same(lambda one: CELL_OPERATIONS[name](one, value), cell)

    @rule(items=lists, name=st.sampled_from(sorted(LIST_OPERATIONS)), value=PLAIN)
    def use_a_list(self, items: int, name: str, value: object) -> None:
        self._same(lambda one: LIST_OPERATIONS[name](one, value), items)

    @rule(one=cells, other=cells)
    def link(self, one: int, other: int) -> None:
        self._same(lambda a, b: (a.link(b), a.linked(0) is b, a.linked(-1) is b, a is b), one, other)

    @rule(items=lists, cell=cells)
    def put_into(self, items: int, cell: int) -> None:
        self._same(lambda a, b: (a.append(b), a[-1] is b, b in a, a.count(b)), items, cell)

    @rule(one=cells, other=cells)
    def operate(self, one: int, other: int) -> None:
        self._same(lambda a, b: (a + b, a.apply(b.add)), one, other)

    @rule(items=st.lists(cells, max_size=3))
    def several_at_once(self, items: list[int]) -> None:
        chosen = [self.pairs[key] for key in items]
        local, far = (
            outcome(lambda one, i=i: one.total([pair[i] for pair in chosen]), one) for i, one in enumerate(self.worlds)
        )
        assert far == local

    @rule(threads=st.integers(2, 4), rounds=st.integers(1, 5))
    def threads(self, threads: int, rounds: int) -> None:
        for one in self.worlds:
            _in_threads(one, threads, rounds)
        local, far = (one.counter.value for one in self.worlds)
        assert far == local

    @rule()
    def give_up(self) -> None:
        with pytest.raises(gw.TimedOut), gw.timeout(0.005):
            self.worlds[1].forever()

    @rule(cell=consumes(cells))
    def drop_a_cell(self, cell: int) -> None:
        del self.pairs[cell]

    @rule(items=consumes(lists))
    def drop_a_list(self, items: int) -> None:
        del self.pairs[items]

    def teardown(self) -> None:
        if hasattr(self, "conn"):
            del self.worlds, self.pairs
            self.far.check_empty(self.relays)


def _list_of(one: Any, items: list[object]) -> Any:
    made = one.call(one.Cell, 0).links
    made.extend(items)
    return made


def _in_threads(one: Any, threads: int, rounds: int) -> None:
    """Each thread works on a cell of its own, and all of them on one that has a lock."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = one.Cell(number)
            for _ in range(rounds):
                mine.add(1)
                with one.lock:
                    before = one.counter.value
                    one.counter.apply(lambda value: mine.add(0))
                    one.counter.value = before + 1
            assert mine.value == number + rounds
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures


@pytest.mark.parametrize("relays", [0, 3])
def test_programs_of_blocking_code(far: Far, relays: int) -> None:
    class Here(Objects):
        pass

    Here.far, Here.relays = far, relays
    with far.lent(relays):
        run_state_machine_as_test(
            Here,
            settings=settings(max_examples=PROGRAMS, stateful_step_count=25, suppress_health_check=list(HealthCheck)),
        )


# -- trio: tasks that run at once, some of which are cancelled


STEPS = st.one_of(
    st.tuples(st.just("add"), SMALL),
    st.tuples(st.just("call back"), SMALL),
    st.tuples(st.just("fail"), st.just(0)),
    st.tuples(st.just("fail here"), SMALL),
    st.tuples(st.just("give up"), st.just(0)),
    st.tuples(st.just("walk"), st.integers(0, 4)),
    st.tuples(st.just("leave a walk"), st.integers(1, 4)),
    st.tuples(st.just("new"), SMALL),
)
ASYNC_SETUP = (
    SETUP
    + """
import trio
async def forever(started):
    await started()
    await trio.sleep_forever()
"""
)


async def _far_task(lab: Any, names: Any, steps: list[tuple[str, int]], seen: list[object]) -> None:
    cell = await names["Cell"](0)
    for name, value in steps:
        match name:
            case "add":
                seen.append(await cell.add(value))
            case "call back":
                seen.append(await cell.apply(lambda x, value=value: x * value))
            case "fail" | "fail here":
                try:
                    await (cell.fail() if name == "fail" else cell.apply(lambda x, value=value: {}[value]))
                except LookupError as error:
                    seen.append(error.args)
            case "give up":
                with trio.CancelScope() as scope:

                    async def started(scope: trio.CancelScope = scope) -> None:
                        scope.cancel()

                    await names["forever"](started)
                seen.append(scope.cancelled_caught)
            case "walk":
                seen.append([x async for x in cell.walk(value)])
            case "leave a walk":
                async for x in cell.walk(value):
                    seen.append(x)
                    break
            case "new":
                cell = await names["Cell"](value)


def _model(steps: list[tuple[str, int]]) -> list[object]:
    seen: list[object] = []
    cell = 0
    for name, value in steps:
        match name:
            case "add":
                cell += value
                seen.append(cell)
            case "call back":
                seen.append(cell * value)
            case "fail":
                seen.append((cell,))
            case "fail here":
                seen.append((value,))
            case "give up":
                seen.append(True)
            case "walk":
                seen.append([cell + i for i in range(value)])
            case "leave a walk":
                seen.append(cell)
            case "new":
                cell = value
    return seen


@given(tasks=st.lists(st.lists(STEPS, max_size=8), min_size=1, max_size=4))
@settings(max_examples=PROGRAMS, suppress_health_check=list(HealthCheck))
async def test_programs_of_trio_code(far: Far, tasks: list[list[tuple[str, int]]]) -> None:
    seen: list[list[object]] = [[] for _ in tasks]
    async with far.lent_async(3) as lab:
        names, _ = await lab.namespace["make_names"](ASYNC_SETUP)
        async with trio.open_nursery() as nursery:
            for steps, heard in zip(tasks, seen, strict=True):
                nursery.start_soon(_far_task, lab, names, steps, heard)
        del names
    assert seen == list(map(_model, tasks))
