"""The agent, over a wire with a clock that jumps: what a front can ask of it, and what a bad line, a small heap and Ctrl-C cannot do to it."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpyc_gateway.device.codec import Ref, Result
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.source import agent, parts
from tests.proto.line_pair import flips

from .wired import NONCE, Front, Raised, Story, Wired, captured, core, dropped

GETATTR, EVAL, EXEC, IMPORT, APPLY, SAME, DIR, REPR, SETATTR, GETITEM = (
    Primitive.GETATTR, Primitive.EVAL, Primitive.EXEC, Primitive.IMPORT, Primitive.APPLY, Primitive.SAME,
    Primitive.DIR, Primitive.REPR, Primitive.SETATTR, Primitive.GETITEM,
)  # fmt: skip


def test_the_core_is_at_most_5_kb() -> None:
    assert len(agent("core")) <= 5 * 1024


def test_a_small_call_and_its_answer_are_at_most_30_bytes_on_the_line() -> None:
    wired = Wired()
    sizes = []

    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "def f(x): return x + 1")
        f = yield from front.evaluate("f")
        for value in range(100):
            before = sum(map(len, wired.sent + wired.written))
            assert (yield from front.ask(f, value)) == value + 1
            sizes.append(sum(map(len, wired.sent + wired.written)) - before)

    wired.run(story)
    assert sum(sizes) / len(sizes) <= 30
    assert sorted(sizes)[50] <= 29


def test_every_primitive_does_what_its_name_says() -> None:
    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "class A: x = 1\na = A()\ndef f(*a, **k): return (a, sorted(k.items()))")
        a = yield from front.evaluate("a")
        assert isinstance(a, Ref)
        assert (yield from front.ask(GETATTR, a, "x")) == 1
        yield from front.ask(SETATTR, a, "x", [1, {"k": 2.5}])
        assert (yield from front.ask(GETATTR, a, "x", copy=True)) == [1, {"k": 2.5}]
        x = yield from front.ask(GETATTR, a, "x")
        assert (yield from front.ask(GETITEM, x, 0)) == 1
        assert (yield from front.ask(REPR, x)) == "[1, {'k': 2.5}]"
        assert "x" in (yield from front.ask(DIR, a, copy=True))
        f = yield from front.evaluate("f")
        assert (yield from front.ask(APPLY, f, (1, 2), {"b": 3}, copy=True)) == ((1, 2), [("b", 3)])
        path = yield from front.ask(IMPORT, "os.path")
        assert (yield from front.ask(GETATTR, path, "__name__")) in ("posixpath", "ntpath")
        assert (yield from front.ask(SAME, x, copy=True)) == [1, {"k": 2.5}]

    Wired().run(story)


def test_an_expression_is_one_message_each_way() -> None:
    wired = Wired()

    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "class Pin:\n def __init__(s, n): s.n = n\n def value(s): return s.n * 2")
        frames = len(wired.sent), len(wired.written)
        value = yield from front.run(
            Step(EVAL, ("Pin",)), Step(Result(0), (21,)), Step(GETATTR, (Result(1), "value")), Step(Result(2))
        )
        assert value == 42
        assert (len(wired.sent) - frames[0], len(wired.written) - frames[1]) == (1, 1)

    wired.run(story)


def test_the_result_of_a_step_is_never_taken_for_the_number_of_an_object() -> None:
    def story(front: Front) -> Story:
        with pytest.raises(Raised) as caught:
            yield from front.run(Step(EVAL, ("10",)), Step(Result(0), (1,)))
        assert caught.value.failure.kind == "TypeError"
        assert caught.value.failure.step == 1

    Wired().run(story)


def test_an_exception_says_its_class_its_text_where_and_errno() -> None:
    def story(front: Front) -> Story:
        with pytest.raises(Raised) as caught:
            yield from front.run(Step(EVAL, ("1",)), Step(EVAL, ("open('/missing/süß')",)))
        failure = caught.value.failure
        assert (failure.step, failure.kind, failure.errno) == (1, "FileNotFoundError", 2)
        assert "süß" in failure.text
        assert "Traceback" in failure.traceback
        with pytest.raises(Raised) as caught:
            yield from front.evaluate("__import__('sys').exit(3)")
        assert caught.value.failure.kind == "SystemExit"
        assert (yield from front.evaluate("1 + 1")) == 2

    Wired().run(story)


def test_released_objects_make_room_and_their_numbers_are_given_again() -> None:
    wired = Wired()

    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "class A: pass")
        for _ in range(100):
            one = yield from front.evaluate("A()")
            assert one.number < 20
            del one
        yield from front.evaluate("1")

    wired.run(story)
    assert len(wired.agent["table"]) < 20
    assert not any(type(thing).__name__ == "A" for thing in wired.agent["table"])


def test_a_callback_may_call_the_board_which_may_call_back() -> None:
    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "def down(n, call): return n if n < 1 else call(n - 1) + 1")
        down = yield from front.evaluate("down")

        def back(n: int) -> Story:
            return (yield from front.ask(down, n, front.conversation.lend(back)))

        assert (yield from front.ask(down, 10, front.conversation.lend(back))) == 10

    Wired().run(story)


def test_a_callback_takes_keyword_arguments_and_raises_what_the_front_raises() -> None:
    def story(front: Front) -> Story:
        yield from front.ask(
            EXEC, "def f(call):\n try: return call(1, b=[2])\n except KeyError as e: return 'caught ' + str(e)"
        )
        f = yield from front.evaluate("f")
        lend = front.conversation.lend
        assert (yield from front.ask(f, lend(lambda a, b: (a, tuple(b))))) == (1, (2,))

        def raises(*_: Any, **__: Any) -> None:
            raise KeyError("süß")

        assert "caught" in (yield from front.ask(f, lend(raises)))

    Wired().run(story)


def test_events_come_in_order_and_those_that_do_not_fit_are_counted() -> None:
    wired = Wired()
    got: list[int] = []

    def story(front: Front) -> Story:
        event = front.conversation.lend(got.append, event=True)
        yield from front.ask(EXEC, "def many(event):\n for n in range(100): event(n)")
        many = yield from front.evaluate("many")
        yield from front.ask(many, event)
        while not front.heard:
            yield

    front = wired.run(story)
    assert got == list(range(32))
    assert dropped(front) == 68


# -- the six bugs that experiments found


def test_a_request_that_comes_while_a_long_answer_is_sent_does_not_get_between_its_pieces() -> None:
    """Bug a: it was run, and answered, in the middle."""

    def story(front: Front) -> Story:
        calls = [front.conversation.call([Step(EVAL, (f"'{c}' * 5000",))]) for c in "abcdefgh"]
        for c, call in zip("abcdefgh", calls, strict=True):
            assert (yield from front.wait(call)) == c * 5000

    Wired(latency=0.003).run(story)


@given(line=st.binary(max_size=80))
def test_any_line_can_come_and_none_is_an_error(line: bytes) -> None:
    """Bug b: an escape at the end of a damaged line raised IndexError and wedged the link."""
    waiting = [line.replace(b"\n", b"") + b"\n", b"#" + line.replace(b"\n", b"") + b"}\n", b"#}\n", b"#\n", b"\n", b"}"]

    def read_line(_: int) -> bytes:
        if not waiting:
            raise SystemExit
        return waiting.pop(0)

    names = core(read_line=read_line, write=lambda _: None)
    names["peer"] = b"host"
    assert captured(lambda: names["main"](NONCE, b"", 120)) == ""


def test_a_lost_answer_is_sent_again_soon() -> None:
    """Bug c: it took more than half a second."""
    wired = Wired()
    took = []

    def story(front: Front) -> Story:
        yield from front.evaluate("0")
        call = front.conversation.call([Step(EVAL, ("1 + 1",))])
        written = len(wired.written)
        while len(wired.written) == written:
            yield
        wired.to_front.clear()
        start = wired.now
        assert (yield from front.wait(call)) == 2
        took.append(wired.now - start)

    wired.run(story)
    assert took[0] < 0.15


def test_the_end_of_its_input_ends_an_agent() -> None:
    """Bug d: an orphan turned round and round."""
    source = agent("hosted", "core", "callbacks", "roomy") + "begin(None, '', 60)\nmain(b'life', bytes(13), 240)\n"
    command = [sys.executable, "-c", f"exec({source!r}, {{}})"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"life" in done.stdout


def test_a_message_beyond_the_heap_is_refused_by_its_length_and_names_the_call() -> None:
    """Bug e: MemoryError in the middle of it left the caller waiting for ever."""
    wired = Wired(free=8000)

    def story(front: Front) -> Story:
        later = front.conversation.call([Step(SAME, (b"x" * 5000,))])
        after = front.conversation.call([Step(EVAL, ("1 + 1",))])
        with pytest.raises(Raised) as caught:
            yield from front.wait(later)
        assert caught.value.failure.kind == "MemoryError"
        assert "5005 bytes" in caught.value.failure.text
        assert (yield from front.wait(after)) == 2
        assert (yield from front.ask(SAME, b"x" * 1900)) == b"x" * 1900

    wired.run(story)
    assert len(wired.agent["inflow"]) == 0


def test_the_answer_to_a_callback_that_is_beyond_the_heap_fails_the_callback() -> None:
    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "def f(call):\n try: return len(call())\n except MemoryError: return 'too long'")
        f = yield from front.evaluate("f")
        assert (yield from front.ask(f, front.conversation.lend(lambda: b"x" * 100))) == 100
        assert (yield from front.ask(f, front.conversation.lend(lambda: b"x" * 9000))) == "too long"

    Wired(free=8000).run(story)


def test_the_shortest_control_frames_are_heard() -> None:
    """Bug f: RESET with nothing but its header was taken for damage."""
    wired = Wired()

    def story(front: Front) -> Story:
        yield from front.evaluate("0")
        wired.line._control.append(wired.line._encoder.encode(b"\x81"))
        while True:
            yield

    wired.run(story)  # it returns when the agent ends
    assert wired.agent["strikes"] == 9


# -- noise


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chance", [0.001, 0.01])
def test_every_answer_is_right_on_a_noisy_line(chance: float, seed: int) -> None:
    wired = Wired(noise=flips(chance, seed), most=6000.0)

    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "def f(x): return x")
        f = yield from front.evaluate("f")
        for n in range(150):
            value = bytes(random.Random(n).randbytes(n * 5))
            assert (yield from front.ask(f, value)) == value
        calls = [front.conversation.call([Step(f, (n,))]) for n in range(20)]
        for n, call in enumerate(calls):
            assert (yield from front.wait(call)) == n

    front = wired.run(story)
    assert front.lost is None


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["lose", "cut", "double"]))
def test_lines_that_are_lost_cut_or_come_twice_change_no_answer(seed: int, kind: str) -> None:
    chooser = random.Random(seed)

    def noise(data: bytes) -> bytes:
        if chooser.random() > 0.15:
            return data
        return {"lose": b"", "cut": data[: chooser.randrange(len(data))], "double": data + data}[kind]

    def story(front: Front) -> Story:
        yield from front.ask(EXEC, "n = 0\ndef f():\n global n\n n += 1\n return n")
        f = yield from front.evaluate("f")
        for n in range(1, 30):
            assert (yield from front.ask(f)) == n

    Wired(noise=noise, most=100000.0).run(story)


# -- Ctrl-C


def test_what_a_program_prints_comes_between_the_frames() -> None:
    wired = Wired()

    def story(front: Front) -> Story:
        wired.agent["space"]["say"] = wired.print
        assert (yield from front.evaluate("say(b'hello\\nw\\xc3\\xb6rld\\n') or 5")) == 5

    assert wired.run(story).printed == [b"hello", "wörld".encode()]


def test_a_key_that_interrupts_at_any_moment_loses_no_answer_and_runs_nothing_twice() -> None:
    """A trace function raises KeyboardInterrupt where an interpreter may: at any jump in the agent."""
    at = 0
    while interrupted(at):
        at += 1
    assert at > 250


def interrupted(at: int) -> bool:
    """Run six calls, with the key at this jump; whether there was such a jump."""
    wired = Wired()
    runs: list[int] = []
    jumps = -1
    line = 0

    def story(front: Front) -> Story:
        nonlocal jumps
        wired.agent["space"]["runs"] = runs
        yield from front.evaluate("0")
        jumps = 0
        calls = [front.conversation.call([Step(EVAL, (f"runs.append({n}) or '{n}' * 300",))]) for n in range(6)]
        kinds: list[str] = []
        for n, call in enumerate(calls):
            try:
                assert (yield from front.wait(call)) == str(n) * 300
            except Raised as raised:
                kinds.append(raised.failure.kind)
        assert kinds in ([], ["KeyboardInterrupt"], [""])
        if jumps <= at:
            jumps = -1
        assert (yield from front.evaluate("'still here'")) == "still here"

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal jumps, line
        if frame.f_code.co_filename not in ("core", "callbacks"):
            return None
        if event == "line":
            jumped, line = frame.f_lineno <= line, frame.f_lineno
            if jumped and jumps >= 0:
                jumps += 1
                if jumps == at + 1:
                    raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        wired.run(story)
    except KeyboardInterrupt:
        raise AssertionError("it has ended the agent") from None
    finally:
        sys.settrace(before)
    assert len(runs) == len(set(runs))
    return jumps > at


def test_its_parts_are_short_enough_for_a_small_heap() -> None:
    for port in (("console", "micropython"), ("console", "others"), ("usb", "others")):
        source = agent(*port, "core", "callbacks")
        assert max(map(len, parts(source))) <= 800
        assert "".join(parts(source)) == source


def test_it_answers_only_the_newest_front() -> None:
    """Another HELLO is another session: an empty table, and what was under way is not answered."""
    first = Wired()

    def story(front: Front) -> Story:
        yield from front.evaluate("[]")

    first.run(story)
    names = first.agent
    assert len(names["table"]) == 12
    second = Wired(nonce=b"more", agent=names)

    def other(front: Front) -> Story:
        assert (yield from front.evaluate("[]")).number == 11

    second.run(other)
