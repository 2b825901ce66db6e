"""What is recorded, and the program that it becomes."""

from __future__ import annotations

import copy
import pickle
import warnings
from enum import IntEnum
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import rpyc_gateway as gw
from rpyc_gateway import recording
from rpyc_gateway.async_proxy import async_proxy
from rpyc_gateway.held import Held, held_by
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proto.values import Writer
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.recording import build, recording_of
from rpyc_gateway.steps import STEPS, draft_steps
from tests.house import messages_sent, open_house, open_lab


async def test_a_chain_has_at_most_so_many_steps() -> None:
    async with open_lab() as lab:
        chain = lab.root
        for _ in range(STEPS + 1):
            chain = chain.real
        with pytest.raises(gw.LimitExceeded, match="64 steps: await a part"):
            await chain
        nested = lab.eval("1")
        for _ in range(STEPS + 1):
            nested = lab.builtins.abs(nested)
        with pytest.raises(gw.LimitExceeded, match="64 steps"):
            await nested
        long = lab.root
        for _ in range(100_000):
            long = long.real
        with pytest.raises(gw.LimitExceeded):
            await long
        del long, nested
        with pytest.raises(gw.LimitExceeded):
            await _nested(lab, 5000)
    # What was refused was not sent, and says so when it goes.


def _nested(lab: Any, depth: int) -> Any:
    f = lab.root.f
    expression = f
    for _ in range(depth):
        expression = f[expression]
    return expression


class Level(IntEnum):
    LOW = 1


atoms = st.sampled_from([None, True, 1, 2**70, 1.5, "a", "\ud800"])
operands = atoms | st.sampled_from([Level.LOW, b"x", (1,), slice(1), [1]])
steps = st.one_of(
    st.tuples(st.just("get"), st.sampled_from(["a", "_b"])),
    st.tuples(st.just("call"), st.lists(atoms, max_size=2), st.dictionaries(st.sampled_from("xy"), atoms)),
    st.tuples(st.just("call"), st.lists(operands, max_size=2), st.dictionaries(st.sampled_from("xy"), operands)),
    st.tuples(st.just("item"), operands),
)


@given(st.lists(steps, max_size=6))
def test_a_plain_chain_becomes_the_program_that_any_expression_becomes(chain: list[Any]) -> None:
    def written() -> Any:
        expression: Any = async_proxy(Held(NOBODY, 7, ClassInfo(module="m", name="C"), None, None))
        if not chain:
            expression = expression.first
        for kind, *rest in chain:
            if kind == "get":
                expression = getattr(expression, rest[0])
            else:
                expression = expression(*rest[0], **rest[1]) if kind == "call" else expression[rest[0]]
        return expression

    straight, general = written(), written()
    program = recording._Program(held_by(general))
    program.add(recording_of(general))  # type: ignore[arg-type]
    built = build(straight, recording_of(straight))  # type: ignore[arg-type]
    assert draft_steps(built, a_writer) == draft_steps(program.steps, a_writer)
    for link in program.owed:
        link.sent = "as a test"


class Silent:
    """Whom nobody asks."""

    peer_vat = b""

    def drop(self, _handle: object) -> None: ...


NOBODY: Any = Silent()


def a_writer() -> Writer:
    return Writer(lambda thing: thing)


async def test_a_plain_chain_that_was_sent_is_not_sent_again_as_another() -> None:
    async with open_lab() as lab:
        one = lab.builtins.str(1)
        assert await one.upper() == "1"
        with pytest.raises(RuntimeError, match=r"\(1\) was already sent"):
            await one.lower()
        with pytest.raises(RuntimeError, match=r"\(1\) was already sent"):
            await one


def test_reading_attributes_owes_nothing_and_calling_does() -> None:
    chain: Any = async_proxy(Held(NOBODY, 7, ClassInfo(module="m", name="C"), None, None))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _ = chain.read.only
        for _n in range(100_000):
            chain = chain.on
        del chain
    assert caught == []


async def test_operands_may_be_inside_of_tuples_and_slices() -> None:
    async with open_lab() as lab:
        sent = messages_sent(lab)
        items = lab.eval("list(range(10))")
        one, three = lab.eval("1"), lab.eval("3")
        assert await lab.builtins.tuple(items[one:three]) == (1, 2)
        assert len(sent) == 1
        two = lab.eval("2")
        assert await lab.builtins.sum((1, (two, 3)[0], 4)) == 7


async def test_huge_operands_are_refused_and_not_walked_for_ever() -> None:
    async with open_lab() as lab:
        doubled: Any = (1,)
        for _ in range(40):
            doubled = (doubled, doubled)
        with pytest.raises(gw.EncodeError):
            await lab.builtins.id(doubled)
        assert await lab.builtins.len(tuple(range(50_000))) == 50_000


async def test_an_expression_that_was_awaited_is_used_as_what_it_came_to() -> None:
    async with open_lab() as lab:
        path = lab.eval("__import__('pathlib').Path('/a/b')")
        await path
        assert await path.name == "b"
        assert await path.parent.name == "a"
        assert await lab.builtins.str(path) == "/a/b"
        await lab.execute("class Counter: n = 1\ncounter = Counter()")
        counter = await lab.namespace["counter"]
        n = counter.n
        assert await n == 1
        await gw.ops.setattr(counter, "n", 2)
        assert (await n.real, await counter.n.real) == (1, 2)
        failed = lab.eval("1/0")
        with pytest.raises(ZeroDivisionError):
            await failed
        with pytest.raises(ZeroDivisionError):
            await lab.builtins.abs(failed)


async def test_an_unawaited_expression_is_never_sent_as_something_else() -> None:
    async with open_lab() as lab:

        def forward() -> Any:
            return [lab.root.modules]

        with pytest.raises(gw.EncodeError, match="await it first"):
            await (await lab.eval("lambda f: f()[0]"))(forward)
        root: Any = blocking_proxy(lab.held_root)
        with pytest.raises(gw.EncodeError, match="await it first"):
            await trio.to_thread.run_sync(lambda: root.eval("id")(lab.root.modules))


async def test_an_expression_of_another_session_is_refused() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as other:
        operand = other.root.modules
        with pytest.raises(TypeError, match="another session"):
            await one.builtins.id(operand)
        items = await other.eval("[1]")
        assert await one.builtins.len(items) == 1


async def test_a_call_that_is_refused_can_be_used_elsewhere() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as other:
        call = one.eval("1")
        with pytest.raises(TypeError, match="another session"):
            await one.builtins.max(call, other.root.modules)
        assert await call == 1


async def test_proxies_of_both_faces_are_operands_of_each_other() -> None:
    async with open_lab() as lab:
        items = await lab.eval("[1, 2]")
        root: Any = blocking_proxy(lab.held_root)
        blocking = await trio.to_thread.run_sync(lambda: root.eval("[3]"))
        await items.extend(blocking)
        await gw.ops.call(await gw.ops.getattr(blocking, "extend"), items)
        assert await lab.builtins.tuple(blocking) == (3, 1, 2, 3)
        assert await gw.ops.len(blocking) == 4
        assert [item async for item in gw.ops.iterate(blocking)] == [3, 1, 2, 3]
        assert await trio.to_thread.run_sync(lambda: root.eval("list")(items)[0]) == 1
        assert (await lab.builtins.max(blocking)) == 3
        assert items != blocking


async def test_what_is_recorded_can_be_read() -> None:
    async with open_lab() as lab:
        long = lab.modules.os.path.join("a", "b" * 100, 3, [1], key=None)
        assert repr(long) == (
            "<unawaited expression (rpyc_gateway.root object).modules.os.path.join('a', 'bbbbbbbbbbbbbbbbbbbb'…, 3, …, key=None)>"
        )
        value = lab.eval("[1]")
        await value
        assert repr(value) == "<awaited expression (rpyc_gateway.root object).eval('[1]')>"
        assert repr(await value) == f"{await value}" == "<async proxy of a builtins.list object>"
        assert repr(lab.modules["os"]) == "<unawaited expression (rpyc_gateway.root object).modules['os']>"
        dunder = gw.ops.getattr(lab.modules, "__class__")
        assert repr(dunder).endswith(".modules.__class__>")
        await dunder
        with pytest.raises(TypeError):
            await long


async def test_displays_that_look_for_names_record_and_send_nothing() -> None:
    async with open_lab() as lab:
        held = await lab.eval("[1]")
        sent = messages_sent(lab)
        for proxy in (held, lab.modules.os):
            for name in (
                "_repr_html_",
                "_ipython_display_",
                "_ipython_canary_method_should_not_exist_",
                "__rich__",
                "__name__",
            ):
                assert not hasattr(proxy, name)
            with pytest.raises(AttributeError, match=r"gw\.ops\.getattr\(proxy, '__name__'\)"):
                proxy.__name__  # noqa: B018
            assert type(proxy).__name__ == "AsyncProxy"
            assert proxy.__class__ is type(proxy)
            assert not isinstance(proxy, list)
            assert "__await__" in dir(proxy)
        assert not sent


async def test_displays_show_proxies() -> None:
    pretty = pytest.importorskip("rich.pretty")
    async with open_lab() as lab:
        held = await lab.eval("[1]")
        sent = messages_sent(lab)
        assert pretty.pretty_repr(held) == repr(held)
        assert pretty.pretty_repr([lab.modules.os]) == repr([lab.modules.os])
        assert not sent


async def test_a_proxy_of_trio_code_is_not_copied_by_accident() -> None:
    async with open_lab() as lab:
        held = await lab.eval("[1]")
        for proxy in (held, lab.modules):
            with pytest.raises(TypeError, match=r"gw\.ops\.copy"):
                copy.copy(proxy)
            with pytest.raises(TypeError, match=r"gw\.ops\.deepcopy"):
                copy.deepcopy(proxy)
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(proxy)


async def test_what_needs_an_await_says_how_it_is_spelled() -> None:
    async with open_lab() as lab:
        held = await lab.eval("[1]")
        for proxy in (held, lab.modules):
            for use, spelled in (
                (lambda p: p + 1, "add"),
                (lambda p: 1 + p, "add"),
                (lambda p: p < 1, "lt"),
                (lambda p: -p, "neg"),
                (lambda p: divmod(p, 2), "divmod"),
                (lambda p: 2**p, "pow"),
                (len, "len"),
                (bool, "truth"),
                (lambda p: 1 in p, "contains"),
                (int, "int"),
                (float, "float"),
                (round, "round"),
                (next, "next"),
                (reversed, "reversed"),
                (lambda p: p == 5, "eq"),
                (lambda p: p != 5, "eq"),
                (lambda p: p.__setitem__(0, 1), "setitem"),
            ):
                with pytest.raises(TypeError, match=rf"gw\.ops\.{spelled}\("):
                    use(proxy)


async def test_a_proxy_is_used_in_its_own_trio_run_only() -> None:
    async with open_lab() as lab:
        held = await lab.eval("[1]")

        async def elsewhere() -> None:
            await held.append(2)

        with pytest.raises(RuntimeError, match="trio run"):
            await trio.to_thread.run_sync(trio.run, elsewhere)
