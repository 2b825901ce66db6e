"""The proxies of trio code: what they record, what they send, and what they refuse to guess."""

from __future__ import annotations

import linecache

import pytest
import trio

import rpyc_gateway as gw
from tests.house import HOPS, messages_sent, open_house, open_lab


@HOPS
async def test_an_expression_is_one_message_each_way_at_any_number_of_hops(hops: int) -> None:
    async with open_lab(hops) as lab:
        sent = messages_sent(lab)
        assert await lab.modules.os.path.join("a", "b") == "a/b"
        assert len(sent) == 1
        assert lab.path == ("hq", *(f"relay{n}" for n in range(1, hops)), "lab")


async def test_an_unawaited_operand_travels_in_the_same_message() -> None:
    async with open_lab() as lab:
        sent = messages_sent(lab)
        os = lab.modules.os
        assert await os.path.basename(os.path.join("x", os.path.join("y", "z"))) == "z"
        assert len(sent) == 1


async def test_an_operand_that_is_held_already_goes_home() -> None:
    async with open_lab() as lab:
        items = await lab.eval("[1, 2]")
        more = await lab.eval("[3]")
        await items.extend(more)
        assert await lab.builtins.tuple(items) == (1, 2, 3)


async def test_a_second_await_gives_the_same_outcome_and_sends_nothing() -> None:
    async with open_lab() as lab:
        counter = await lab.eval("__import__('itertools').count()")
        value = lab.builtins.next(counter)
        sent = messages_sent(lab)
        assert (await value, await value) == (0, 0)
        assert len(sent) == 1
        failing = lab.eval("1/0")
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await failing


async def test_a_call_that_was_recorded_and_dropped_warns_with_its_line() -> None:
    async with open_lab() as lab:
        with pytest.warns(RuntimeWarning, match=r"never awaited: .*builtins\.print\('nobody will see'\)$") as caught:
            lab.builtins.print("nobody will see")
        assert caught[0].filename == __file__
        assert linecache.getline(__file__, caught[0].lineno).strip() == 'lab.builtins.print("nobody will see")'


async def test_a_call_is_never_sent_twice_as_part_of_two_expressions() -> None:
    async with open_lab() as lab:
        path = lab.eval("__import__('pathlib').Path('/a/b')")
        assert await path.name == "b"
        with pytest.raises(RuntimeError, match="already sent"):
            await path.parent
        double = await lab.eval("lambda x: 2 * x")
        four = double(2)
        assert await double(four) == 8
        with pytest.raises(RuntimeError, match="already sent"):
            await four


async def test_what_would_answer_wrongly_before_an_await_raises() -> None:
    async with open_lab() as lab:
        expression = lab.modules.os.path
        with pytest.raises(TypeError, match="await"):
            bool(expression)
        with pytest.raises(TypeError, match="await"):
            assert expression == 1
        with pytest.raises(AttributeError, match=r"gw\.ops\.setattr"):
            expression.sep = "!"
        with pytest.raises(AttributeError, match=r"gw\.ops\.delattr"):
            del expression.sep


async def test_a_plain_loop_over_a_remote_value_raises_rather_than_never_ending() -> None:
    async with open_lab() as lab:
        names = await lab.eval("['a', 'b']")
        for use in (list, reversed, sorted, tuple, lambda value: [*value], lambda value: "a" in value):
            for value in (names, lab.modules.sys.path):
                with pytest.raises(TypeError, match="remote value"):
                    use(value)


async def test_async_for_walks_builtin_containers_in_batches_and_others_one_by_one() -> None:
    async with open_lab() as lab:
        sent = messages_sent(lab)
        assert [item async for item in lab.eval("list(range(1000))")] == list(range(1000))
        assert len(sent) <= 7
        assert [item async for item in lab.eval("(n * n for n in range(4))")] == [0, 1, 4, 9]


async def test_an_await_after_a_cancelled_one_says_so() -> None:
    async with open_lab() as lab:
        await lab.execute("import trio\nasync def nap(): await trio.sleep_forever()")
        nap = lab.namespace["nap"]()
        with trio.move_on_after(0.01):
            await nap
        with pytest.raises(gw.Cancelled, match="awaited before"):
            await nap


async def test_roots_of_two_sessions_are_two_objects() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as other:
        assert one.root == one.root
        assert one.root != other.root


async def test_an_expression_begins_without_the_turn_of_the_link() -> None:
    async with open_lab() as lab:
        assert lab.root is lab.root
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lab, "step", lambda: pytest.fail("the turn was taken"))
            expression = lab.modules.os.sep
        assert await expression == "/"
