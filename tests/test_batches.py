"""Expressions that are sent together: one message, results of one in another, and what becomes of the others when one fails."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import rpyc_gateway as gw
from rpyc_gateway.held import held_by
from rpyc_gateway.proto.messages import Call
from tests.blocking_house import House, open_blocking_lab
from tests.counting import Counted, told
from tests.house import HOPS, open_lab

SETUP = """
import threading, trio
import rpyc_gateway as gw
done = []
class Counter:
    def __init__(self, count=0): self.count = count
    def add(self, n=1, *, times=1): done.append(n); self.count += n * times; return self.count
    def same(self): return self
    def fail(self, text="no"): done.append(text); raise LookupError(text)
class Plain: value = "its own"
def apply(function, *args, **kwargs): return function(*args, **kwargs)
async def later(value): return value
async def forever(): done.append("begun"); await trio.sleep_forever()
"""


@pytest.fixture(params=[1, 3], ids=["0 relays", "2 relays"], scope="module")
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture
def conn(house: House) -> Iterator[gw.BlockingSession]:
    with house.connect() as conn:
        conn.execute(SETUP)
        yield conn


def done(conn: gw.BlockingSession) -> list[Any]:
    return gw.obtain(conn.namespace["done"])  # type: ignore[no-any-return]


# -- what can be recorded


@HOPS
async def test_a_batch_is_one_write(hops: int) -> None:
    def story(lab: Counted) -> None:
        conn = gw.BlockingSession(lab.session, lambda: None)
        user = conn.eval("User('eve')")
        with lab.trips(1), gw.batch(conn) as b:
            here, greeting = b.modules.os.getcwd(), b(user).greet("hi")
            base = b.modules.os.path.basename(here)
            for number in range(50):
                b(user).rename(f"eve {number}")
            name = b(user).name
        assert len([write for write in lab.messages() if any(type(message) is Call for message in write)]) == 1
        assert (greeting.value, name.value) == ("hi eve", "eve 49")
        assert here.value.endswith(base.value)

    await told(hops, story)


def test_everything_that_has_a_spelling_can_be_recorded(conn: gw.BlockingSession) -> None:
    counter: Any = conn.namespace["Counter"](5)
    with gw.batch(conn) as b:
        far = b(counter)
        total = far.add(2, times=3)
        more = b.namespace["Counter"](total).add(n=total)
        far.label = "a label"
        label = far.label
        del far.label
        table = b.eval("{}")
        table["total"] = total
        item = table["total"]
        table[("a", total)] = (total, slice(0, total))
        nested = table[("a", total)]
        del table["total"]
        b.execute("mark = 7")
        mark, length = b.namespace["mark"], b.builtin.len("abc")
        task = b.namespace["later"]("awaited there")
        path = b.modules["os.path"].join("a", b.root.eval("'b'"))
    assert (total.value, more.value, label.value, item.value) == (11, 22, "a label", 11)
    assert nested.value == (11, slice(0, 11))
    assert gw.obtain(table.value) == {("a", 11): (11, slice(0, 11))}
    assert (mark.value, length.value, task.value, path.value) == (7, 3, "awaited there", "a/b")
    assert not hasattr(counter, "label")


def test_functions_of_ours_and_objects_of_theirs_are_arguments(conn: gw.BlockingSession) -> None:
    counter, mine = conn.namespace["Counter"](1), []
    run_in: list[threading.Thread] = []

    def note(value: Any) -> Any:
        run_in.append(threading.current_thread())
        mine.append(value)
        return value

    with gw.batch(conn) as b:
        apply = b.namespace["apply"]
        first = apply(note, 1)
        back = apply(note, counter)
        both = apply(note, first)
        called = apply(b(counter).add, 4)
    assert (first.value, both.value, called.value) == (1, 1, 5)
    assert back.value is counter
    assert mine == [1, counter, 1]
    assert run_in == [threading.current_thread()] * 3


def test_what_has_no_spelling_is_in_ops(conn: gw.BlockingSession) -> None:
    numbers = conn.eval("[3, 4]")
    with gw.batch(conn) as b:
        far = b(numbers)
        length, there, third = gw.ops.len(far), gw.ops.contains(far, 3), gw.ops.add(far, [5])
        total = gw.ops.add(1, far[0])
        same, bigger, text = gw.ops.eq(far[0], 3), gw.ops.gt(far[1], far[0]), gw.ops.str(far)
        own = gw.ops.getattr(b.namespace["Plain"], "value")
        gw.ops.setitem(far, 0, total)
    assert (length.value, there.value, total.value) == (2, True, 4)
    assert (same.value, bigger.value, text.value, own.value) == (True, True, "[3, 4]", "its own")
    assert gw.obtain(third.value) == [3, 4, 5]
    assert gw.obtain(numbers) == [4, 4]


def test_all_is_done_in_the_order_in_which_it_was_written_in_our_own_far_thread(conn: gw.BlockingSession) -> None:
    numbers, mine = conn.eval("[]"), conn.modules.threading.get_ident()
    with gw.batch(conn) as b:
        for number in range(3000):
            b(numbers).append(number)
        thread = b.modules.threading.get_ident()
        lock = b.modules.threading.RLock()
        lock.acquire()
    assert gw.obtain(numbers) == list(range(3000))
    assert thread.value == mine
    lock.value.release()


def test_a_teleported_function_is_there_before_the_block(conn: gw.BlockingSession) -> None:
    there = conn.teleport(lambda a, b: a - b)
    with gw.batch(conn) as b:
        first = b(there)(7, 2)
        second = b(there)(first, 1)
        with pytest.raises(TypeError, match=r"conn\.teleport\(function\) before it, and b\(there\)"):
            b.teleport(there)
    assert (first.value, second.value) == (5, 4)


def test_a_batch_with_nothing_in_it_sends_nothing(conn: gw.BlockingSession) -> None:
    with gw.batch(conn) as b:
        assert repr(b) == "<batch of 0 steps that is in its block>"
    assert repr(b) == "<batch of 0 steps that was sent>"


# -- what a placeholder does not answer


def test_a_placeholder_never_guesses(conn: gw.BlockingSession) -> None:
    with gw.batch(conn) as b:
        far = b.eval("[1]")
        wrong: dict[str, Any] = {
            "truth": lambda: bool(far),
            "len": lambda: len(far),
            "iter": lambda: list(far),
            "reversed": lambda: reversed(far),
            "contains": lambda: 1 in far,
            "eq": lambda: far == [1],
            "ne": lambda: far != [1],
            "lt": lambda: far < [2],
            "add": lambda: far + 2,
            "mul": lambda: 2 * far,
            "neg": lambda: -far,
            "int": lambda: int(far),
            "index": lambda: range(far),
            "next": lambda: next(far),
        }
        for name, use in wrong.items():
            with pytest.raises(TypeError, match=rf"use its `value`, behind the block; or record gw\.ops\.{name}\("):
                use()
        for use in (lambda: copy.copy(far), lambda: pickle.dumps(far), lambda: gw.obtain(far), lambda: far.__enter__()):
            with pytest.raises(TypeError, match="behind the block"):
                use()
        with pytest.raises(AttributeError):
            far._repr_html_  # noqa: B018
        with pytest.raises(AttributeError, match=r"gw\.ops\.setattr"):
            far.value = 1
        with pytest.raises(TypeError, match="this is for trio code"):
            gw.ops.iterate(far)
        with pytest.raises(TypeError, match=r"gw\.async_ is for blocking code"):
            gw.async_(far)
        assert {far: 1}[far] == 1
        assert str(far) == repr(far) == "<placeholder of a batch, recorded: root.eval('[1]')>"
    assert repr(far) == "<placeholder of a batch, known: root.eval('[1]')>"
    with pytest.raises(TypeError):
        bool(far)
    assert gw.obtain(far.value) == [1]


def test_a_value_is_known_behind_the_block_and_nothing_is_recorded_there(conn: gw.BlockingSession) -> None:
    batch = gw.batch(conn)
    with pytest.raises(RuntimeError, match="nothing can be recorded in a batch that is not entered"):
        batch.eval("1")
    with batch as b:
        one = b.eval("1")
        with pytest.raises(RuntimeError, match="is known at its end, behind the block"):
            one.value  # noqa: B018
    assert one.value == one.value == 1
    for late in (lambda: one.real, lambda: b.eval("2"), lambda: one()):
        with pytest.raises(RuntimeError, match="recorded in a batch that was sent"):
            late()
    with pytest.raises(RuntimeError, match="a batch is entered once, and this one was sent"), batch:
        pass
    with pytest.raises(TypeError, match="an object that is held"):
        b(conn.eval("[]")).value  # noqa: B018


def test_results_of_a_batch_are_arguments_in_the_next_one_and_nowhere_before(conn: gw.BlockingSession) -> None:
    with gw.batch(conn) as first:
        total = first.eval("40")
        with gw.batch(conn) as second, pytest.raises(TypeError, match="not of this batch: use its value"):
            second.builtins.abs(total)
        for inside in ([total], {"a": total}):
            with pytest.raises(gw.EncodeError, match="a placeholder of a batch stands for what is not there yet"):
                conn.namespace["apply"](lambda value: value, (inside[0],) if type(inside) is list else (inside["a"],))
    with gw.batch(conn) as third:
        more = third.builtins.abs(total)
    assert more.value == 40


def test_only_what_belongs_to_the_session_can_be_recorded(conn: gw.BlockingSession, house: House) -> None:
    with house.connect() as other, gw.batch(conn) as b:
        for stranger in (other.eval("[]"), [], None):
            with pytest.raises(TypeError, match="takes proxies of its own session"):
                b(stranger)
        with pytest.raises(TypeError, match="it takes no Placeholder"):
            b(b.eval("1"))
    for wrong in (None, conn.root, []):
        with pytest.raises(TypeError, match=r"a session of gw\.connect"):
            gw.batch(wrong)


async def test_trio_code_is_told_that_it_needs_none() -> None:
    async with open_lab() as lab:
        with pytest.raises(TypeError, match="in trio code any expression is one message"):
            gw.batch(lab)
        conn = gw.BlockingSession(lab, lambda: None)
        with pytest.raises(RuntimeError, match="the thread that runs trio"), gw.batch(conn) as b:
            b.eval("1")


# -- errors


def test_an_error_is_that_of_whatever_uses_it_and_the_others_are_done(conn: gw.BlockingSession) -> None:
    counter = conn.namespace["Counter"]()
    with pytest.raises(LookupError, match="no luck") as caught, gw.batch(conn) as b:  # noqa: PT012
        before = b(counter).add(1)
        bad = b(counter).fail("no luck")
        of_bad = b.builtins.abs(bad)
        after = b(counter).add(2)
        worse = b.eval("1 // 0")
    assert (before.value, after.value) == (1, 3)
    assert done(conn) == [1, "no luck", 2]
    for placeholder in (bad, of_bad):
        with pytest.raises(LookupError) as again:
            placeholder.value  # noqa: B018
        assert again.value is caught.value
    with pytest.raises(ZeroDivisionError):
        worse.value  # noqa: B018
    assert caught.value.__notes__[-1].startswith("1 more failed in this batch: ZeroDivisionError: ")
    assert "LookupError" in gw.remote_traceback(caught.value)


def test_a_chain_ends_with_its_first_error(conn: gw.BlockingSession) -> None:
    with pytest.raises(LookupError), gw.batch(conn) as b:  # noqa: PT012
        counter = b.namespace["Counter"]()
        counter.add(1)
        counter.fail("stop")
        never = counter.add(2)
    assert done(conn) == [1, "stop"]
    for placeholder in (counter, never):
        with pytest.raises(LookupError):
            placeholder.value  # noqa: B018


def test_an_error_of_what_nobody_kept_is_raised_by_the_block(conn: gw.BlockingSession) -> None:
    with pytest.raises(LookupError, match="unseen"), gw.batch(conn) as b:
        b.namespace["Counter"]().fail("unseen")


def test_a_block_that_is_left_by_an_exception_sends_nothing(conn: gw.BlockingSession) -> None:
    counter = conn.namespace["Counter"]()
    with pytest.raises(KeyError, match="mine"), gw.batch(conn) as b:  # noqa: PT012
        total = b(counter).add(1)
        raise KeyError("mine")
    assert done(conn) == []
    with pytest.raises(RuntimeError, match="was not sent: this batch was left by an exception"):
        total.value  # noqa: B018


def test_what_cannot_be_sent_keeps_all_of_it_here(conn: gw.BlockingSession) -> None:
    deep: Any = ()
    for _ in range(200):
        deep = (deep,)
    with pytest.raises(gw.EncodeError), gw.batch(conn) as b:  # noqa: PT012
        b(conn.namespace["done"]).append(1)
        b.builtins.len(deep)
    with (  # noqa: PT012
        pytest.raises(gw.LimitExceeded, match=r"more than 64 steps, at .*: end the batch before"),
        gw.batch(conn) as b,
    ):
        total = b.namespace["Counter"]()
        for _ in range(40):
            total.add(1)
    assert done(conn) == []
    with pytest.raises(RuntimeError, match="was not sent: this batch has failed"):
        total.value  # noqa: B018


def test_a_result_that_cannot_be_sent_is_an_error_of_its_own_chain(conn: gw.BlockingSession) -> None:
    conn.execute("deep = ()\nfor _ in range(200): deep = (deep,)")
    with pytest.raises(gw.EncodeError), gw.batch(conn) as b:  # noqa: PT012
        deep = b.namespace["deep"]
        good = b.eval("1")
    assert good.value == 1
    with pytest.raises(gw.EncodeError):
        deep.value  # noqa: B018
    with gw.batch(conn) as b:
        b.namespace["deep"]  # nobody wants it: it stays there
        good = b.eval("2")
    assert good.value == 2


def test_a_timeout_around_the_block_ends_it(conn: gw.BlockingSession, house: House) -> None:
    forever = conn.namespace["forever"]
    with pytest.raises(gw.TimedOut), gw.timeout(0.1), gw.batch(conn) as b:
        quick, stuck = b.eval("1"), b(forever)()
    with pytest.raises(gw.TimedOut):
        stuck.value  # noqa: B018
    far = house.sessions()[-1]
    house.until(lambda: far.statistics().running == 0)
    assert conn.ping(1) == 1
    del quick


def test_the_loss_of_the_session_is_the_error_of_all_that_was_not_done(conn: gw.BlockingSession) -> None:
    forever = conn.namespace["forever"]

    def close() -> None:
        threading.Thread(target=conn.close).start()

    with pytest.raises(gw.SessionClosed), gw.batch(conn) as b:  # noqa: PT012
        done, lost = b.eval("1"), b(forever)()
        b.namespace["apply"](close)
    assert done.value == 1
    with pytest.raises(gw.SessionClosed):
        lost.value  # noqa: B018


def test_nothing_is_left_behind(conn: gw.BlockingSession, house: House) -> None:
    counter = conn.namespace["Counter"]()
    number = held_by(counter).number
    with gw.batch(conn) as b:
        kept = b.namespace["Counter"]()
        kept.add(1)
        b(counter).same()
        for _ in range(100):
            b.namespace["Counter"]()
    assert kept.value.count == 1
    session, far = conn._session, house.sessions()[-1]
    del counter, kept, b
    gc.collect()
    house.until(lambda: far.statistics()[1:3] == (0, 0) and session.statistics().imports == 0)
    assert number not in session.rpc.imports._holders
