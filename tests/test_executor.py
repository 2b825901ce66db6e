"""Work for several nodes: who does what, how it comes back, and what becomes of it when a node is gone."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import operator
import os
import re
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import far_calls
from rpyc_gateway.serving import Offer
from tests.blocking_house import open_blocking_lab
from tests.house import open_house, open_lab

NODE = f"stdio:{sys.executable} -m rpyc_gateway stdio --name {{}} --serve classic"
SECONDS = 60

OFFSET = 1000


@pytest.fixture(scope="module")
def crew() -> Iterator[list[gw.BlockingSession]]:
    """Sessions with two nodes, each of which is a process."""
    with gw.connect(NODE.format("anne")) as anne, gw.connect(NODE.format("bert")) as bert:
        yield [anne, bert]


@pytest.fixture
def pool(crew: list[gw.BlockingSession]) -> Iterator[gw.Executor]:
    with gw.Executor(crew) as pool:
        yield pool


class Gate:
    """Calls that have begun, and wait here until they are let through."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.opened = threading.Event()

    def wait(self) -> bool:
        self.begun.release()
        return self.opened.wait(SECONDS)

    def wait_begun(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=SECONDS)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def where() -> int:
    return os.getpid()


def hold(wait: Callable[[], object]) -> int:
    wait()
    return os.getpid()


def with_offset(number: int) -> int:
    return OFFSET + number


def pids(crew: list[gw.BlockingSession]) -> list[int]:
    return [conn.modules.os.getpid() for conn in crew]


# -- what runs there


def test_functions_of_this_process_run_on_the_nodes(pool: gw.Executor, crew: list[gw.BlockingSession]) -> None:
    base = 5
    assert pool.submit(where).result() in pids(crew)
    assert pool.submit(lambda n: base + n, 1).result() == 6
    assert pool.submit(with_offset, number=1).result() == 1001
    assert pool.submit(partial(partial(lambda a, b, *, c: (a, b, c), 1), c=2), 3, c=4).result() == (1, 3, 4)


def test_what_the_standard_library_has_is_taken_from_there(pool: gw.Executor) -> None:
    assert pool.submit(pow, 2, 5).result() == 32
    assert pool.submit(statistics.mean, [1, 2, 3]).result() == 2
    assert list(pool.map(int, ["1", "2"])) == [1, 2]
    assert list(pool.map(operator.add, [1, 2], [3, 4])) == [4, 6]
    assert list(pool.map(str.upper, ["a", "b"])) == ["A", "B"]
    assert pool.submit(dict.fromkeys, "ab").result() == {"a": None, "b": None}
    assert pool.submit(Fraction.from_float, 0.5).result() == Fraction(1, 2)
    assert pool.submit(os.getpid).result() != os.getpid()
    with pytest.raises(TypeError, match="there is nothing to send"):
        pool.submit("a".upper).result()
    with pytest.raises(TypeError, match="is a method, and its object stays here"):
        pool.submit(Gate().wait).result()


async def later(number: int) -> int:
    return number


def test_async_functions_run_there_too(pool: gw.Executor) -> None:
    assert list(pool.map(later, range(4))) == list(pool.map(later, range(4), chunksize=3)) == [0, 1, 2, 3]


def test_remote_functions_run_where_they_are(pool: gw.Executor, crew: list[gw.BlockingSession]) -> None:
    anne, bert = pids(crew)
    for conn, pid in zip(crew, (anne, bert), strict=True):
        assert {pool.submit(conn.modules.os.getpid).result() for _ in range(4)} == {pid}
        assert set(pool.map(conn.eval("lambda n: __import__('os').getpid()"), range(5), chunksize=2)) == {pid}
    kept = crew[0].eval("[3]")
    pool.submit(kept.append, 4).result()
    assert kept == [3, 4]


def test_a_function_goes_to_each_node_once(crew: list[gw.BlockingSession]) -> None:
    def count(_: object, so_far: list[int] = []) -> int:  # noqa: B006  # this one is kept on purpose
        so_far.append(1)
        return len(so_far)

    with gw.Executor(crew[0]) as pool:
        assert list(pool.map(count, range(4))) == [1, 2, 3, 4]
        assert list(pool.map(partial(count), range(100), chunksize=70)) == list(range(5, 105))


def test_it_works_over_three_hops() -> None:
    with open_blocking_lab(3) as house, house.connect() as conn, gw.Executor(conn, per_node=3) as pool:
        assert list(pool.map(with_offset, range(5))) == [1000, 1001, 1002, 1003, 1004]
        assert list(pool.map(lambda a, b: [a, b], range(300), range(300), chunksize=150))[-1] == [299, 299]


# -- what goes and comes back


def test_plain_data_comes_back_as_copies_and_the_rest_as_proxies(pool: gw.Executor) -> None:
    def mixed() -> object:
        class Thing:
            size = 3

        return 1, [{"a": {2}}, Thing()], OrderedDict(x=[b""])

    one, (plain, thing), ordered = pool.submit(mixed).result()
    assert (one, plain, ordered) == (1, {"a": {2}}, OrderedDict(x=[b""]))
    assert (type(plain), type(plain["a"]), type(ordered)) == (dict, set, OrderedDict)
    assert thing.size == 3


def test_what_has_no_copy_is_no_error(pool: gw.Executor) -> None:
    def endless() -> object:
        itself: list[object] = [1]
        itself.append(itself)
        return itself

    result = pool.submit(endless).result()
    assert result[1][1][0] == 1


def test_arguments_go_as_copies_and_what_has_none_by_reference(pool: gw.Executor) -> None:
    def change(numbers: list[int], told: Callable[[str], object], *, more: dict[str, int]) -> tuple[str, str]:
        numbers.append(1)
        told(type(numbers).__name__)
        return type(numbers).__module__, type(more).__module__

    mine: list[int] = []
    heard: list[str] = []
    assert pool.submit(change, mine, lambda what: heard.append(what), more={}).result() == ("builtins", "builtins")
    assert (mine, heard) == ([], ["list"])


async def test_where_pickles_are_allowed_objects_come_back_too() -> None:
    def path() -> object:
        from pathlib import PurePosixPath

        return [PurePosixPath("/etc")]

    def unreadable() -> object:
        class Spoilt:
            size = 3

            def __reduce__(self) -> tuple[Any, ...]:
                return int, ("this is no number",)

        return Spoilt()

    def story(conn: gw.BlockingSession) -> None:
        assert conn.pickles
        with gw.Executor(conn) as pool:
            assert pool.submit(path).result() == [PurePosixPath("/etc")]
            lock = pool.submit(threading.Lock).result()  # there is no pickle of it
            assert lock.acquire()
            assert pool.submit(unreadable).result().size == 3

    async with open_house("hq", "lab", pickle=True) as nodes, nodes[0].session("lab", pickle=True) as session:
        await trio.to_thread.run_sync(story, gw.BlockingSession(session, lambda: None))


def test_exceptions_are_themselves_with_what_happened_over_there(pool: gw.Executor) -> None:
    def divide(by: int) -> float:
        return 1 / by

    with pytest.raises(ZeroDivisionError) as caught:
        pool.submit(divide, 0).result()
    assert "divide" in gw.remote_traceback(caught.value)
    with pytest.raises(ZeroDivisionError):
        list(pool.map(divide, [1, 0, 1], chunksize=3))
    results = pool.map(divide, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(gw.RemoteError, match="SystemExit"):
        pool.submit(sys.exit, 3).result()
    assert pool.submit(divide, 1).result() == 1


# -- who does it, and when


def test_each_node_does_so_many_at_a_time(crew: list[gw.BlockingSession], gate: Gate) -> None:
    with gw.Executor(crew, per_node=2) as pool:
        calls = [pool.submit(hold, gate.wait) for _ in range(6)]
        gate.wait_begun(4)
        assert [call.running() for call in calls] == [True] * 4 + [False] * 2
        assert repr(pool) == "<Executor on anne, bert: 4 calls begun, 2 waiting>"
        gate.opened.set()
        done, _ = concurrent.futures.wait(calls, SECONDS)
    assert len(done) == 6
    assert {call.result() for call in calls} == set(pids(crew))


def test_who_is_free_does_what_waits(pool: gw.Executor, gate: Gate, crew: list[gw.BlockingSession]) -> None:
    slow = pool.submit(hold, gate.wait)
    gate.wait_begun()
    others = set(pool.map(lambda _: os.getpid(), range(8)))
    gate.opened.set()
    assert others == set(pids(crew)) - {slow.result()}


def test_a_call_that_waits_can_be_cancelled(crew: list[gw.BlockingSession], gate: Gate) -> None:
    with gw.Executor(crew[:1]) as pool:
        first = pool.submit(hold, gate.wait)
        gate.wait_begun()
        second, third = pool.submit(hold, gate.wait), pool.submit(where)
        assert second.cancel()
        assert second.cancel()
        assert second.cancelled()
        gate.opened.set()
        assert third.result() == first.result()
        assert not first.cancel()
        assert not gate.begun.acquire(blocking=False)  # it has never begun


def test_a_call_that_runs_is_cancelled_over_there(crew: list[gw.BlockingSession]) -> None:
    async def forever(begun: Callable[[], Any]) -> None:
        import threading

        import trio

        await begun()
        try:
            await trio.sleep_forever()
        finally:
            threading.ended.set()  # type: ignore[attr-defined]

    crew[0].modules.threading.ended = crew[0].modules.threading.Event()
    begun = threading.Event()
    with gw.Executor(crew[0]) as pool:
        call = pool.submit(forever, begun.set)
        assert begun.wait(SECONDS)
        assert call.running()
        assert call.cancel()
        assert call.cancelled()
        assert pool.submit(where).result() == pids(crew)[0]  # its place is free
    with pytest.raises(concurrent.futures.CancelledError):
        call.result()
    assert crew[0].modules.threading.ended.wait(SECONDS)


def test_map_ends_in_time_and_cancels_what_is_left(crew: list[gw.BlockingSession], gate: Gate) -> None:
    with gw.Executor(crew[:1]) as pool:
        results = pool.map(lambda n, wait: wait() if n else n, range(5), [gate.wait] * 5, timeout=0.2)
        with pytest.raises(TimeoutError):
            list(results)
        assert pool.submit(where).result()  # nobody waits for the rest


def test_futures_are_those_of_the_standard_library(pool: gw.Executor) -> None:
    heard: list[object] = []
    call = pool.submit(pow, 2, 3)
    call.add_done_callback(lambda done: heard.append(done.result()))
    assert {done.result() for done in concurrent.futures.as_completed([call, pool.submit(pow, 2, 4)])} == {8, 16}
    assert heard == [8]
    assert call.exception() is None


def test_asyncio_takes_it_as_an_executor_and_cancels_over_there(crew: list[gw.BlockingSession], gate: Gate) -> None:
    async def main(pool: gw.Executor) -> int:
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(pool, hold, gate.wait), 0.05)
        return await loop.run_in_executor(pool, where)

    with gw.Executor(crew[0]) as pool:
        assert asyncio.run(main(pool)) == pids(crew)[0]  # which has one place, and that is free


# -- nodes that are lost


def kill(conn: gw.BlockingSession) -> None:
    os.kill(conn.modules.os.getpid(), signal.SIGKILL)


def test_what_a_lost_node_had_not_begun_goes_to_the_others(crew: list[gw.BlockingSession], gate: Gate) -> None:
    with gw.connect(NODE.format("dora")) as dora, gw.Executor([dora, crew[0]]) as pool:
        begun = pool.submit(dora.eval("lambda wait: wait()"), gate.wait)
        bound = pool.submit(dora.modules.os.getpid)
        gate.wait_begun()
        other = pool.submit(hold, gate.wait)
        gate.wait_begun()
        waiting = [pool.submit(where) for _ in range(5)]
        getpid = dora.modules.os.getpid
        kill(dora)
        with pytest.raises(gw.LinkLost):
            begun.result(SECONDS)
        with pytest.raises(gw.Unreachable, match=r"not begun, since no node is left that can: dora \(.*SIGKILL\)"):
            bound.result(SECONDS)
        gate.opened.set()
        assert {call.result(SECONDS) for call in [other, *waiting]} == {pids(crew)[0]}
        with pytest.raises(gw.Unreachable, match="dora"):
            pool.submit(getpid)
        assert "dora (lost)" in repr(pool)


def test_with_no_node_left_nobody_waits(gate: Gate) -> None:
    with gw.connect(NODE.format("emil")) as emil, gw.Executor(emil) as pool:
        begun = pool.submit(hold, gate.wait)
        gate.wait_begun()
        waiting = [pool.submit(where) for _ in range(5)]
        kill(emil)
        with pytest.raises(gw.LinkLost):
            begun.result(SECONDS)
        for call in waiting:
            with pytest.raises(gw.Unreachable, match="not begun, since no node is left"):
                call.result(SECONDS)
        with pytest.raises(gw.Unreachable):
            pool.submit(where)
        with pytest.raises(gw.Unreachable):
            pool.map(abs, [1])


def test_a_node_that_is_lost_before_it_has_a_call_has_not_begun_it(
    crew: list[gw.BlockingSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gw.connect(NODE.format("ida")) as ida, gw.Executor([ida, crew[0]]) as pool:

        def close_and_teleport(conn: gw.BlockingSession, function: Callable[..., Any]) -> Any:
            ida.close()
            return gw.teleport(conn, function)

        monkeypatch.setattr(far_calls, "teleport", close_and_teleport)
        assert pool.submit(where).result(SECONDS) == pids(crew)[0]
        with pytest.raises(gw.Unreachable, match="ida"):
            gw.Executor(ida).submit(where)


def test_a_node_that_was_lost_while_it_did_nothing_is_left_out(crew: list[gw.BlockingSession]) -> None:
    with gw.connect(NODE.format("fred")) as fred, gw.Executor([fred, crew[0]]) as pool:
        fred.close()
        assert {pool.submit(where).result(SECONDS) for _ in range(3)} == {pids(crew)[0]}


# -- its beginning and its end


def test_after_shutdown_nothing_is_taken(crew: list[gw.BlockingSession], gate: Gate) -> None:
    pool = gw.Executor(crew[0])
    begun, waiting = pool.submit(hold, gate.wait), pool.submit(where)
    gate.wait_begun()
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="was shut down"):
        pool.submit(where)
    with pytest.raises(RuntimeError):
        pool.map(abs, [1])
    gate.opened.set()
    assert begun.result(SECONDS) == waiting.result(SECONDS)  # they were submitted before
    pool.shutdown()
    assert not crew[0].closed


def test_shutdown_cancels_what_has_not_begun_if_it_is_told_to(crew: list[gw.BlockingSession], gate: Gate) -> None:
    pool = gw.Executor(crew[0])
    begun, waiting, bound = pool.submit(hold, gate.wait), pool.submit(where), pool.submit(crew[0].modules.os.getpid)
    gate.wait_begun()
    pool.shutdown(wait=False, cancel_futures=True)
    assert (begun.cancelled(), waiting.cancelled(), bound.cancelled()) == (False, True, True)
    gate.opened.set()
    pool.shutdown()
    assert begun.result(0) == pids(crew)[0]


def test_an_interrupted_block_cancels_everything(crew: list[gw.BlockingSession], gate: Gate) -> None:
    calls = []

    def interrupted() -> None:
        with gw.Executor(crew[0]) as pool:
            calls.extend([pool.submit(hold, gate.wait), pool.submit(where)])
            gate.wait_begun()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [call.cancelled() for call in calls] == [True, True]


def test_ctrl_c_while_a_block_waits_for_its_calls_cancels_them(crew: list[gw.BlockingSession], gate: Gate) -> None:
    calls = []
    is_left = threading.Event()

    def interrupt() -> None:
        is_left.wait(SECONDS)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        gate.wait()

    def waited_for() -> None:
        with gw.Executor(crew[0]) as pool:
            calls.extend([pool.submit(hold, interrupt), pool.submit(where)])
            is_left.set()

    with pytest.raises(KeyboardInterrupt):
        waited_for()
    assert [call.cancelled() for call in calls] == [True, True]


def test_where_there_can_be_no_more_threads_a_call_fails_at_once(crew: list[gw.BlockingSession]) -> None:
    with gw.Executor(crew[0]) as pool:
        pool._threads.shutdown()
        for _ in range(2):  # and takes nobody's place
            with pytest.raises(RuntimeError, match="cannot schedule"):
                pool.submit(where).result(SECONDS)


def test_nodes_by_their_urls_are_opened_and_closed() -> None:
    with open_blocking_lab(1) as house:
        with gw.Executor([house.url, (house.url, "lab")]) as pool:
            assert list(pool.map(abs, [-1, 1, -1])) == [1, 1, 1]
            assert len(house.sessions()) == 2
        house.until(lambda: not len(house.lab._serving))
        pool = gw.Executor(house.url)
        gate = threading.Event()
        call = pool.submit(hold, gate.wait)
        pool.shutdown(wait=False)
        gate.set()
        assert call.result(SECONDS) == os.getpid()
        house.until(lambda: not len(house.lab._serving))


def test_a_url_that_leads_nowhere_leaves_nothing_open(crew: list[gw.BlockingSession], tmp_path: Path) -> None:
    with open_blocking_lab(1) as house:
        with pytest.raises(gw.DialFailed):
            gw.Executor([house.url, f"unix://{tmp_path}/none"])
        house.until(lambda: not len(house.lab._serving))


SCRIPT = f"""
import os, warnings
import rpyc_gateway as gw
conn = gw.connect({NODE.format("gert")!r})
pool = gw.Executor(conn)
"""


def script(lines: str) -> str:
    command = [sys.executable, "-W", "error", "-c", SCRIPT + lines]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (result.stderr, result.returncode) == ("", 0)
    return result.stdout


def test_a_process_that_ends_waits_for_its_calls() -> None:
    lines = """
for number in range(3):
    pool.submit(abs, -number).add_done_callback(lambda done: print(done.result()))
"""
    assert script(lines) == "0\n1\n2\n"


def test_a_forked_child_makes_its_own() -> None:
    lines = """
pool.submit(abs, -1).result()
waiting = pool.submit(conn.modules.time.sleep, 0.1)
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: just that is tried here
if child := os.fork():
    os.waitpid(child, 0)
    print(pool.submit(abs, -2).result())
else:
    try:
        pool.submit(abs, -1)
    except gw.SessionClosed as error:
        print(error, flush=True)
    pool.shutdown()
    os._exit(0)
"""
    assert script(lines) == ("this Executor belongs to the process that forked this one; make a new one here\n2\n")


def test_wrong_input_is_told_at_once(pool: gw.Executor, crew: list[gw.BlockingSession]) -> None:
    wrong: Any = pool
    with pytest.raises(ValueError, match="at least one node"):
        gw.Executor([])
    with pytest.raises(ValueError, match="named twice"):
        gw.Executor([crew[0], crew[0]])
    with pytest.raises(ValueError, match="at least one call at a time, not 0"):
        gw.Executor(crew, per_node=0)
    with pytest.raises(ValueError, match="a chunk has at least one item"):
        pool.map(abs, [1], chunksize=0)
    with pytest.raises(TypeError, match=r"a session of gw\.connect, a URL, or .*, not a int"):
        gw.Executor([5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a int cannot be called"):
        wrong.submit(5)
    with pytest.raises(TypeError, match=r"the class .* cannot be teleported"):
        pool.submit(type("Mine", (), {})).result()
    with gw.connect(NODE.format("hans")) as other, pytest.raises(ValueError, match="not in a session of this Executor"):
        pool.submit(other.modules.os.getpid)


async def test_trio_code_is_told_to_use_a_nursery(pool: gw.Executor) -> None:
    async with open_lab() as lab:
        with pytest.raises(RuntimeError, match="in trio code start the calls in a nursery"):
            gw.Executor([])
        with pytest.raises(TypeError, match="start a task in a nursery"):
            await trio.to_thread.run_sync(pool.submit, lab.modules.os.getpid)


class Scale(gw.Service):
    @gw.expose
    def weigh(self, things: list[str]) -> dict[str, int]:
        return {thing: len(thing) for thing in things}

    @gw.expose
    async def settle(self, seconds: int) -> int:
        return seconds


def test_of_a_service_that_is_not_classic_its_own_functions_run() -> None:
    with open_blocking_lab(1, {"scale": Offer(Scale, ("*",))}) as house, house.connect(service="scale") as conn:
        with gw.Executor(conn) as pool:
            assert pool.submit(conn.root.weigh, ["a", "bc"]).result() == {"a": 1, "bc": 2}
            assert list(pool.map(conn.root.weigh, [["a"], ["b"], ["c"]], chunksize=2)) == [{"a": 1}, {"b": 1}, {"c": 1}]
            assert list(pool.map(conn.root.settle, range(4), chunksize=3)) == [0, 1, 2, 3]
            with pytest.raises(gw.NotExposed):
                pool.submit(where).result()


async def test_the_lines_of_the_page_for_trio_code_share_the_work_too() -> None:
    page = (Path(__file__).parents[1] / "docs/executor.md").read_text()
    *_, lines = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    feed, samples = trio.open_memory_channel[int](math.inf)
    for sample in range(5):
        feed.send_nowait(sample)
    feed.close()
    measured: list[int] = []
    with open_blocking_lab(1) as house:
        space = {"gw": gw, "trio": trio, "url": house.url, "nodes": ["lab", "lab"], "samples": samples}
        space |= {"measure": lambda sample: 2 * sample, "print": lambda _, result: measured.append(result)}
        exec(f"async def main():\n{textwrap.indent(lines, '    ')}", space)
        await space["main"]()  # type: ignore[operator]
    assert sorted(measured) == [0, 2, 4, 6, 8]
