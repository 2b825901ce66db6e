"""Programs as source, and answers as values: seen with Python itself in the place of a board."""

from __future__ import annotations

import contextlib
import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.device.codec import Host, Ref, Result
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.phrasing import call_in, failure_of, helpers, hosts_in, raising, read, returning, source_of
from rpyc_gateway.errors import EncodeError, ProtocolError

MARK = "mark"
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda parts: st.tuples(parts, parts),
    max_leaves=8,
)
COPIED = st.recursive(PLAIN, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3))


class Interpreter:
    """What a board does with it."""

    def __init__(self) -> None:
        self.space: dict[str, Any] = {}
        exec(helpers(MARK), self.space)

    def run(self, steps: list[Step], number: int = 1, *, copy: bool = False, released: tuple[int, ...] = ()) -> str:
        source, _ = source_of(steps, number, copy=copy, released=released)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(source, self.space)
        before, _, answer = printed.getvalue().rpartition(f"\n{MARK}")
        assert before == ""
        return answer.removesuffix("\n")


def alike(one: object, other: object) -> bool:
    return repr(one) == repr(other)


@given(PLAIN)
def test_a_value_goes_there_and_comes_back(value: object) -> None:
    assert alike(read(Interpreter().run([Step(Primitive.SAME, (value,))])), value)


@given(COPIED)
def test_lists_and_dicts_go_there_and_come_as_copies(value: object) -> None:
    assert alike(read(Interpreter().run([Step(Primitive.SAME, (value,))], copy=True)), value)


def test_what_is_no_value_stays_there_under_its_number_until_it_is_released() -> None:
    there = Interpreter()
    assert there.run([Step(Primitive.EVAL, ("[1, 2]",))], 7) == "@"
    assert there.run([Step(Primitive.GETITEM, (Ref(7), 1))]) == "2"
    assert there.run([Step(Primitive.EVAL, ("len(_go)",))], released=(7, 8)) == "0"


def test_steps_use_the_results_of_earlier_ones() -> None:
    steps = [
        Step(Primitive.IMPORT, ("os.path",)),
        Step(Primitive.GETATTR, (Result(0), "join")),
        Step(Result(1), ("a", "b")),
    ]
    assert read(Interpreter().run(steps)) == "a/b"


def test_everything_that_can_be_done_is_done() -> None:
    there = Interpreter()
    there.run([Step(Primitive.EXEC, ("class Thing: pass\nthing = Thing()\ndef f(*a, **k): return (a, tuple(k))",))])
    assert there.run([Step(Primitive.EVAL, ("thing",))], 1) == "@"
    assert there.run([Step(Primitive.EVAL, ("f",))], 2) == "@"
    assert read(there.run([Step(Primitive.SETATTR, (Ref(1), "x y", 5))])) is None
    assert read(there.run([Step(Primitive.GETATTR, (Ref(1), "x y"))])) == 5
    assert read(there.run([Step(Primitive.APPLY, (Ref(2), (1,), {"k": 2}))])) == ((1,), ("k",))
    assert read(there.run([Step(Ref(2), ((), "a"))])) == (((), "a"), ())
    assert read(there.run([Step(Primitive.GETATTR, (5, "real"))])) == 5
    there.run([Step(Primitive.SETATTR, (Ref(1), "if", 6))])
    assert read(there.run([Step(Primitive.GETATTR, (Ref(1), "if"))])) == 6
    assert read(there.run([Step(Primitive.REPR, ("a",))])) == "'a'"
    assert "x y" in read(there.run([Step(Primitive.DIR, (Ref(1),))], copy=True))


def test_source_that_is_executed_alone_is_not_a_string_in_the_program_too() -> None:
    source, _ = source_of([Step(Primitive.EXEC, ("x = 1  # a comment",))], 1, copy=False)
    assert source == "x = 1  # a comment\n_ga(None,1)"


@pytest.mark.parametrize("value", [print, object(), {1, 2}, ((((print,),),),)])
def test_what_cannot_be_said_is_refused(value: object) -> None:
    with pytest.raises(EncodeError):
        source_of([Step(Primitive.SAME, (value,))], 1, copy=False)


def test_functions_of_this_side_go_by_their_numbers() -> None:
    steps = [Step(Ref(1), ([Host(7)],))]
    assert source_of(steps, 2, copy=False)[0] == "_ga(_go[1]([_gc(7)]),2)"
    assert hosts_in(steps)
    assert not hosts_in([Step(Ref(1), ([7],))])


def test_a_call_of_the_board_is_read_and_what_it_cannot_say_is_refused() -> None:
    assert call_in("7,((1, 'a'), {'by': None})") == (7, (1, "a"), {"by": None})
    for said in ("7,((<closure>,), {})", "7", "7,(1, {})", "", "'a',((), {})"):
        with pytest.raises(TypeError, match="plain values only"):
            call_in(said)


def test_its_answer_is_a_line() -> None:
    assert eval(returning("é\n")) == ("é\n",)
    _, error = eval(raising("OSError", "no"))
    assert (type(error), str(error)) == (OSError, "no")
    assert type(eval(raising("Unheard", "no"))[1]) is RuntimeError
    assert b"\n" not in raising("E", "a\nb\x03") + returning("\n\x03")
    with pytest.raises(EncodeError):
        returning(object())


def test_a_value_that_is_too_deep_is_refused() -> None:
    value: tuple[object, ...] = ()
    for _ in range(20):
        value = (value,)
    with pytest.raises(EncodeError, match="deeper than 16"):
        source_of([Step(Primitive.SAME, (value,))], 1, copy=False)


@pytest.mark.parametrize("text", ["", "<object>", "1 +", "print(1)", "(" * 500, "x", "1;2"])
def test_an_answer_that_is_no_value_is_an_error(text: str) -> None:
    with pytest.raises(ProtocolError, match="no value"):
        read(text)


def test_infinities_are_read_at_any_depth() -> None:
    assert read("(inf,-inf)") == (math.inf, -math.inf)
    assert math.isnan(read("nan"))


def test_a_traceback_names_the_step() -> None:
    """As a micro:bit writes it."""
    said = 'Traceback (most recent call last):\r\n  File "<stdin>", line 4, in <module>\r\n  File "<string>", line 1, in f\r\nOSError: 5\r\n'
    failure = failure_of(said, before=2, steps=3)
    assert (failure.step, failure.kind, failure.text, failure.errno) == (1, "OSError", "5", 5)
    assert failure.traceback.startswith("Traceback")
    assert failure_of("MemoryError: \r\n", before=0, steps=1).kind == "MemoryError"
    assert failure_of("KeyboardInterrupt:\r\n", before=0, steps=1).kind == "KeyboardInterrupt"
    assert failure_of("OSError: [Errno 19] ENODEV", before=0, steps=1).errno == 19
    assert failure_of("garbage", before=0, steps=1).step == 0
