"""Questions of ours: many at once, cancelled, too late, and what their errors say."""

from __future__ import annotations

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.proto.messages import Verb
from tests.house import HOPS, open_lab


@HOPS
async def test_an_exception_keeps_type_arguments_notes_and_traceback_and_says_where_it_was(hops: int) -> None:
    async with open_lab(hops) as lab:
        with pytest.raises(FileNotFoundError, match="No such file") as caught:
            await lab.builtins.open("/no/such/file")
        error = caught.value
        assert (error.errno, error.filename) == (2, "/no/such/file")
        assert "FileNotFoundError" in gw.remote_traceback(error)
        assert gw.remote_path(error)[0] == "lab"
        assert gw.remote_path(error)[-1] == ("relay1" if hops == 3 else "lab")
        await lab.execute("def chained():\n try: 1/0\n except ZeroDivisionError as e: raise KeyError('k') from e")
        with pytest.raises(KeyError) as again:
            await lab.namespace["chained"]()
        assert isinstance(again.value.__cause__, ZeroDivisionError)


async def test_a_hundred_calls_in_flight_are_answered_each_with_its_own() -> None:
    async with open_lab() as lab:
        double = await lab.eval("lambda x: 2 * x")
        answers: dict[int, int] = {}

        async def ask(number: int) -> None:
            answers[number] = await double(number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
        assert answers == {number: 2 * number for number in range(100)}


async def test_a_deadline_travels() -> None:
    async with open_lab() as lab:
        await lab.execute("import trio\nleft = []\nasync def nap():\n await trio.sleep_forever()\n")
        with trio.move_on_after(0.05) as scope:
            await lab.namespace["nap"]()
        assert scope.cancelled_caught
        assert await lab.ping(1) == 1


async def test_a_peer_that_names_what_it_was_never_given_hears_so() -> None:
    async with open_lab() as lab:
        with pytest.raises(gw.ProtocolError, match="object 999"):
            await lab.asking.ask_async(999, ((Verb.GET, 0, "x"),))
        assert await lab.ping(1) == 1


async def test_what_is_cancelled_before_it_is_sent_is_not_done() -> None:
    async with open_lab() as lab:
        done = await lab.eval("[]")
        with trio.CancelScope() as scope:
            scope.cancel()
            await done.append(1)
        assert await gw.ops.len(done) == 0


async def test_the_end_of_an_iterator_can_be_raised_by_a_coroutine() -> None:
    async with open_lab() as lab:
        walk = await lab.eval("iter([])")
        with pytest.raises(StopAsyncIteration):
            await gw.ops.next(walk)


async def test_an_exception_says_its_way_from_either_side() -> None:
    async with open_lab(2) as lab:
        await lab.execute(
            "def tell(f):\n try: f()\n except KeyError as e: return gw.remote_path(e)\nimport rpyc_gateway as gw"
        )

        def fail() -> None:
            raise KeyError("k")

        assert await lab.namespace["tell"](fail) == ("hq", "relay1")
