"""Programs of steps: written, run, and every verb of them judged at one place."""

from __future__ import annotations

import functools
import gc
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.awaiting import Later
from rpyc_gateway.classes import SPECIAL
from rpyc_gateway.errors import Denied, LimitExceeded, NotExposed, ProtocolError
from rpyc_gateway.operations import OPERATORS
from rpyc_gateway.program import Done, Face, Program, RaisedAt
from rpyc_gateway.proto.copies import BASE, DEEP, Copied
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import Payload, Result, Writer
from rpyc_gateway.service import ClassicService, Policy, Service, policy_for
from rpyc_gateway.steps import STEPS, Step, method_read, write_steps
from tests.naming import named

VECTORS = json.loads((Path(__file__).parent / "vectors/messages.json").read_text())["programs"]


class Lab:
    """What programs are run on."""

    name = "lab"

    def __init__(self) -> None:
        self.entered: list[tuple[Any, ...]] = []

    def scale(self, value: int, *, by: int) -> int:
        return value * by

    def fail(self) -> None:
        raise SystemExit(3)

    def __getitem__(self, index: int) -> str:
        return "abc"[index]

    def __enter__(self) -> None: ...

    def __exit__(self, *reason: object) -> bool:
        self.entered.append(reason)
        return True

    async def measure(self, times: int) -> int:
        return times


class Recorder:
    """A policy that passes everything except the verbs it is told to deny, and notes what it was asked."""

    def __init__(self, *denied: Verb) -> None:
        self.denied = denied
        self.asked: list[tuple[object, Verb, str]] = []

    def check(self, target: object, verb: Verb, name: str) -> None:
        self.asked.append((target, verb, name))
        if verb in self.denied:
            raise Denied(f"no {verb.name}")


class Desk:
    """Runs programs and notes which face was asked for."""

    def __init__(self, target: object, policy: Policy | None = None) -> None:
        self.target = target
        self.policy = policy or Recorder()
        self.faces: list[Face] = []

    def begin(self, packed: bytes, refs: Sequence[object] = ()) -> Any:
        def adopt(face: Face) -> Sequence[object]:
            self.faces.append(face)
            return refs

        return Program(Payload(packed), self.target, self.policy, adopt)

    def run(self, *steps: Step) -> Any:
        """The value of a program that needs no coroutine, or the RaisedAt."""
        writer = Writer(lambda thing: thing)
        draft = writer.finish(write_steps(steps, writer))
        return self.finish(self.begin(draft.packed, draft.refs))

    def run_raw(self, structure: object) -> Any:
        return self.finish(self.begin(msgspec.msgpack.encode(structure)))

    @staticmethod
    def finish(program: Any) -> Any:
        outcome = program.go_on()
        return outcome.value if isinstance(outcome, Done) else outcome


def lab(policy: Recorder | None = None) -> Desk:
    return Desk(Lab(), policy)


# -- the bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["steps"])
def test_each_program_of_the_table_has_its_bytes_and_the_bytes_their_result(vector: dict[str, Any]) -> None:
    steps = eval(vector["steps"], {"Verb": Verb, "Result": Result, "Copied": Copied})
    writer = Writer(lambda thing: thing)
    assert writer.finish(write_steps(steps, writer)).packed.hex() == vector["hex"]
    desk = lab()
    program = desk.begin(bytes.fromhex(vector["hex"]))
    if vector["result"] is None:  # it is to be awaited
        program.go_on().coroutine.close()
    else:
        assert desk.finish(program) == eval(vector["result"], {"Copied": Copied})


def test_the_table_is_complete() -> None:
    assert {vector["row"] for vector in VECTORS} == set(Verb.__members__)


# -- running ------------------------------------------------------------------------------------------------------------


def test_an_empty_program_answers_with_its_target() -> None:
    desk = lab()
    assert desk.run() is desk.target


def test_steps_use_the_results_of_earlier_steps() -> None:
    steps = [(Verb.GET, 0, "scale"), (Verb.CALL, 1, (2,), {"by": 3}), (Verb.CALL, 1, (Result(2),), {"by": Result(2)})]
    assert lab().run(*steps) == 36


def test_the_step_that_raised_is_named_and_the_rest_is_not_run() -> None:
    desk = lab()
    outcome = desk.run((Verb.GET, 0, "name"), (Verb.GET, 0, "nothing"), (Verb.SET, 0, "name", 1))
    assert isinstance(outcome, RaisedAt)
    assert (type(outcome.error), outcome.step) == (AttributeError, 2)
    assert desk.target.name == "lab"  # type: ignore[attr-defined]


def test_whatever_is_raised_is_an_outcome() -> None:
    outcome = lab().run((Verb.GET, 0, "fail"), (Verb.CALL, 1, (), {}))
    assert isinstance(outcome.error, SystemExit)


def test_a_coroutine_is_handed_out_and_its_result_goes_on() -> None:
    writer = Writer(lambda thing: thing)
    draft = writer.finish(
        write_steps([(Verb.GET, 0, "measure"), (Verb.CALL, 1, (3,), {}), (Verb.VALUE, 0, Result(2))], writer)
    )
    desk = lab()
    program = desk.begin(draft.packed)
    program.go_on().coroutine.close()
    assert program.go_on(42) == Done(42)


def test_what_a_coroutine_raised_is_raised_by_its_step() -> None:
    writer = Writer(lambda thing: thing)
    draft = writer.finish(write_steps([(Verb.GET, 0, "measure"), (Verb.CALL, 1, (3,), {})], writer))
    program = lab().begin(draft.packed)
    program.go_on().coroutine.close()
    outcome = program.go_on(error=KeyError("k"))
    assert isinstance(outcome.error, KeyError)
    assert outcome.step == 2


def test_a_program_whose_coroutine_was_cancelled_can_be_closed() -> None:
    writer = Writer(lambda thing: thing)
    draft = writer.finish(write_steps([(Verb.GET, 0, "measure"), (Verb.CALL, 1, (3,), {})], writer))
    program = lab().begin(draft.packed)
    program.go_on().coroutine.close()
    program.close()


async def measure(_thing: object) -> None:
    """What `async def` gets are awaitable proxies."""


class Deep:
    """Has an async method."""

    async def measure(self, _thing: object) -> None: ...


@pytest.mark.parametrize(
    ("function", "face"),
    [
        (measure, Face.ASYNC),
        (Deep().measure, Face.ASYNC),
        (functools.partial(functools.partial(measure)), Face.ASYNC),
        (functools.partial(Deep().measure), Face.ASYNC),
        (len, Face.BLOCKING),
        (list, Face.BLOCKING),
        (lambda _thing: None, Face.BLOCKING),
    ],
    ids=named,
)
def test_proxies_suit_the_code_that_gets_them(function: Callable[..., object], face: Face) -> None:
    desk = Desk(function)
    writer = Writer(lambda thing: thing)
    draft = writer.finish(write_steps([(Verb.CALL, 0, ([],), {})], writer))
    program = desk.begin(draft.packed, draft.refs)
    outcome = program.go_on()
    if isinstance(outcome, Later):
        outcome.coroutine.close()
    assert desk.faces == [face]


def test_a_callable_is_asked_for_nothing_but_to_be_called() -> None:
    """It may be a proxy of another session, for which each question would be a call."""
    asked: list[str] = []

    class Curious:
        def __getattribute__(self, name: str) -> object:
            asked.append(name)
            return object.__getattribute__(self, name)

        def __call__(self) -> int:
            return 42

    assert Desk(Curious()).run((Verb.CALL, 0, (), {})) == 42
    assert asked == []


def test_keyword_names_that_python_uses_itself_are_free() -> None:
    desk = Desk(lambda *args, **kwargs: (args, tuple(kwargs.items())))
    kwargs = {"self": 1, "function": 2, "args": 3, "name": 4}
    assert desk.run((Verb.CALL, 0, (0,), kwargs)) == ((0,), tuple(kwargs.items()))


def test_special_methods_know_all_the_ways_an_object_can_answer() -> None:
    class Old:
        def __getitem__(self, index: int) -> int:
            return [1, 2][index]

        def __len__(self) -> int:
            return 0

    desk = Desk(Old())
    assert desk.run((Verb.OP, 0, "__iter__", ()), (Verb.TAKE, 1, 5)) == ((1, 2), True)
    assert desk.run((Verb.OP, 0, "__contains__", (2,))) is True
    assert desk.run((Verb.OP, 0, "__bool__", ())) is False
    assert isinstance(desk.run((Verb.OP, 0, "__next__", ())).error, TypeError)


def test_an_operator_may_answer_that_it_does_not_know() -> None:
    assert Desk([1]).run((Verb.OP, 0, "__eq__", (1,))) is NotImplemented
    assert isinstance(Desk([1]).run((Verb.OP, 0, "__matmul__", (1,))).error, TypeError)


def test_special_methods_are_those_of_the_class() -> None:
    desk = lab()
    desk.target.__neg__ = lambda *_args: 5  # type: ignore[attr-defined]
    assert isinstance(desk.run((Verb.OP, 0, "__neg__", ())).error, TypeError)


def test_leaving_a_context_takes_an_exception() -> None:
    desk = lab()
    assert desk.run((Verb.OP, 0, "__exit__", (ValueError("no"),))) is True
    assert desk.run((Verb.OP, 0, "__exit__", ())) is True
    (kind, error, _trace), nothing = desk.target.entered  # type: ignore[attr-defined]
    assert (kind, error.args) == (ValueError, ("no",))
    assert nothing == (None, None, None)


def numbers() -> Iterator[int]:
    yield from range(5)
    raise KeyError("broken")


def test_items_are_taken_in_batches_until_there_are_no_more() -> None:
    desk = Desk(iter(range(5)))
    assert desk.run((Verb.TAKE, 0, 3)) == ((0, 1, 2), False)
    assert desk.run((Verb.TAKE, 0, 3)) == ((3, 4), True)
    assert desk.run((Verb.TAKE, 0, 3)) == ((), True)
    assert isinstance(Desk(numbers()).run((Verb.TAKE, 0, 9)).error, KeyError)


# -- bounds and nonsense ------------------------------------------------------------------------------------------------


def test_a_program_is_an_expression_and_not_a_loop() -> None:
    steps = [(Verb.GET, 0, "name")] * (STEPS + 1)
    with pytest.raises(LimitExceeded, match=f"{STEPS + 1} steps"):
        write_steps(steps, Writer(lambda thing: thing))
    assert lab().run(*steps[1:]) == "lab"
    outcome = lab().run_raw([[0, 0, "name"]] * (STEPS + 1))
    assert isinstance(outcome.error, ProtocolError)
    assert outcome.step == 0


@pytest.mark.parametrize(
    "step",
    [
        5,
        [],
        [0],
        "ab",
        [7, 0],
        [7, 0, "deep"],
        [8, 0],
        ["GET", 0, "name"],
        [0, 1, "name"],
        [0, 2, "name"],
        [0, -1, "name"],
        [0, None, "name"],
        [0, 0],
        [0, 0, 5],
        [1, 0, "name"],
        [2, 0],
        [3, 0, []],
        [3, 0, 5, []],
        [3, 0, [1], ["a", "b"]],
        [4, 0, "__len__"],
        [4, 0, "__len__", 5],
        [4, 0, "__exit__", ["no exception"]],
        [5, 0, 0],
        [5, 0, 100_001],
        [5, 0, True],
        [6, 0, {"a": 1}],
        [6, 0, msgspec.msgpack.Ext(9, b"\1")],
    ],
    ids=named,
)
def test_a_step_of_the_wrong_shape_is_a_protocol_error_of_its_call(step: object) -> None:
    outcome = lab().run_raw([step])
    assert isinstance(outcome, RaisedAt)
    assert isinstance(outcome.error, ProtocolError)
    assert outcome.step == 1


scalars = (
    st.none()
    | st.integers(-2, 7)
    | st.sampled_from(["name", "__len__", "__exit__", "__getitem__"])
    | st.binary(max_size=2)
)
structures = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=15)


@given(structures | st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2), structures, structures), max_size=4))
def test_any_structure_comes_to_an_outcome(structure: object) -> None:
    program = lab().begin(msgspec.msgpack.encode(structure))
    outcome = program.go_on()
    if isinstance(outcome, Later):
        outcome.coroutine.close()
    assert isinstance(outcome, Done | RaisedAt | Later)


@given(
    st.lists(scalars | st.booleans() | st.floats(allow_nan=False) | st.sampled_from([2**70, "\ud800", (1, (2,))])),
    st.lists(st.sampled_from("abc"), unique=True),
)
def test_arguments_arrive_as_they_were_written(values: list[object], names: list[str]) -> None:
    desk = Desk(lambda *args, **kwargs: (args, kwargs))
    kwargs = dict.fromkeys(names, 0)
    assert desk.run((Verb.CALL, 0, tuple(values), kwargs)) == (tuple(values), kwargs)


def test_what_is_called_is_judged_before_its_arguments_are_looked_at() -> None:
    desk = Desk(lambda *_args: None, Recorder(Verb.CALL))
    outcome = desk.run((Verb.CALL, 0, (1,), {}))
    assert isinstance(outcome.error, Denied)
    assert desk.faces == []


def test_a_program_that_is_over_holds_nothing() -> None:
    class Made:
        def touch(self) -> None: ...

    desk = Desk(Made, policy_for(ClassicService()))
    writer = Writer(lambda thing: thing)
    steps = [(Verb.CALL, 0, (), {}), (Verb.GET, 1, "touch"), (Verb.CALL, 2, (), {})]
    program = desk.begin(writer.finish(write_steps(steps, writer)).packed)
    assert program.go_on() == Done(None)
    assert [thing for thing in gc.get_objects() if type(thing) is Made] == []


@pytest.mark.parametrize(
    ("structure", "name"),
    [
        ([[0, 0, "name"]], "name"),
        ([[0, 1, "name"]], None),
        ([[0, 0, "name", 1]], None),
        ([[0, 0, b"name"]], None),
        ([[0, 0, "name"], [0, 1, "name"]], None),
        ([[3, 0, [], []]], None),
        ([], None),
        (7, None),
    ],
    ids=named,
)
def test_a_reading_of_one_attribute_is_known_before_it_is_run(structure: object, name: str | None) -> None:
    assert method_read(Payload(msgspec.msgpack.encode(structure))) == name


@pytest.mark.parametrize("head", ["dc0001", "dd00000001"])
def test_a_reading_may_be_packed_at_greater_length(head: str) -> None:
    packed = bytes.fromhex(head + "930000a474657874")
    assert method_read(Payload(packed)) == "text"
    assert method_read(Payload(packed[:-1])) is None


def test_a_copy_ends_a_program() -> None:
    assert lab().run((Verb.VALUE, 0, Copied([1])), (Verb.COPY, 1, DEEP)) == Copied([1], DEEP)
    outcome = lab().run((Verb.COPY, 0, DEEP), (Verb.GET, 1, "value"))
    assert isinstance(outcome.error, ProtocolError)
    assert outcome.step == 1


def test_a_memo_of_the_peer_is_not_shown_what_is_inside() -> None:
    memo: dict[int, object] = {}
    target = [[1]]
    copied, made = Desk(target).run((Verb.OP, 0, "__deepcopy__", (memo,)))
    assert copied == target
    assert copied[0] is not target[0]
    assert memo == {}
    assert not [name for name in dir(made) if not name.startswith("_")]
    assert Desk(target).run((Verb.OP, 0, "__deepcopy__", (made,)))[0] is copied
    assert Desk(target).run((Verb.OP, 0, "__deepcopy__", ())) == target


def test_a_copy_of_what_the_builtin_base_of_a_class_holds_is_named_to_the_policy() -> None:
    desk = lab()
    desk.run((Verb.COPY, 0, BASE))
    assert [entry[1:] for entry in desk.policy.asked] == [(Verb.COPY, "base")]


# -- the one check ------------------------------------------------------------------------------------------------------

# One step for each verb, on an object whose every answer would show.
EACH: dict[Verb, tuple[Step, str]] = {
    Verb.GET: ((Verb.GET, 0, "name"), "name"),
    Verb.SET: ((Verb.SET, 0, "name", 1), "name"),
    Verb.DEL: ((Verb.DEL, 0, "name"), "name"),
    Verb.CALL: ((Verb.CALL, 0, (), {}), ""),
    Verb.OP: ((Verb.OP, 0, "__len__", ()), "__len__"),
    Verb.TAKE: ((Verb.TAKE, 0, 1), ""),
    Verb.VALUE: ((Verb.VALUE, 0, 1), ""),
    Verb.COPY: ((Verb.COPY, 0, DEEP), ""),
    Verb.ITER: ((Verb.ITER, 0, 1, 1), "__aiter__"),
    Verb.ENTER: ((Verb.ENTER, 0), "__aenter__"),
}
ASKED_AS = {Verb.ITER: Verb.OP, Verb.ENTER: Verb.OP}


class Tripwire:
    """Notes whatever is done to it."""

    def __init__(self) -> None:
        object.__setattr__(self, "touched", [])

    def _touch(self, *_args: object) -> Any:
        object.__getattribute__(self, "touched").append(1)
        return 1

    __getattribute__ = __setattr__ = __delattr__ = __call__ = __next__ = _touch
    for _name in SPECIAL:
        locals()[_name] = _touch


@pytest.mark.parametrize("verb", Verb)
def test_every_verb_asks_the_policy_first_and_a_no_touches_nothing(verb: Verb) -> None:
    asked_as = ASKED_AS.get(verb, verb)
    target, policy = Tripwire(), Recorder(asked_as)
    outcome = Desk(target, policy).run(EACH[verb][0])
    assert isinstance(outcome, RaisedAt)
    assert isinstance(outcome.error, Denied)
    assert [(asked is target, verb, name) for asked, verb, name in policy.asked] == [(True, asked_as, EACH[verb][1])]
    assert object.__getattribute__(target, "touched") == []


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_asks_the_policy_for_both_operands(name: str) -> None:
    target, policy = Tripwire(), Recorder(Verb.OP)
    assert isinstance(Desk(target, policy).run((Verb.OP, 0, name, ())).error, Denied)
    assert policy.asked[0][1] is Verb.OP
    assert object.__getattribute__(target, "touched") == []

    permissive = Recorder()
    other = Tripwire()
    Desk(Lab(), permissive).run((Verb.OP, 0, name, (other,)))
    assert [asked for asked, _, _ in permissive.asked][1] is other


class Closed(Service):
    """Has operators, and shows none."""

    def _answer(self, *_args: object) -> Any:
        raise AssertionError("a method that is not exposed")

    __radd__ = __rsub__ = __gt__ = __eq__ = __ror__ = _answer
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "name", ["__add__", "__iadd__", "add", "iadd", "__lt__", "lt", "__eq__", "eq", "__or__", "ior"]
)
def test_an_operand_answers_only_with_what_it_exposes(name: str) -> None:
    target: object = {} if "or" in name else []
    outcome = Desk(target, policy_for(None)).run((Verb.OP, 0, name, (Closed(),)))
    assert isinstance(outcome, RaisedAt)
    assert isinstance(outcome.error, NotExposed)
    assert (
        Desk([], policy_for(None)).run((Verb.OP, 0, "eq", (Service(),))) is False
    )  # what every object has is no secret


@pytest.mark.parametrize("name", sorted(SPECIAL - {"__call__"}))
def test_every_special_method_asks_the_policy(name: str) -> None:
    target, policy = Tripwire(), Recorder(Verb.OP)
    assert isinstance(Desk(target, policy).run((Verb.OP, 0, name, ())).error, Denied)
    assert [entry[1:] for entry in policy.asked] == [(Verb.OP, name)]
    assert object.__getattribute__(target, "touched") == []


@pytest.mark.parametrize(
    "name",
    [
        "__call__",
        "__getattribute__",
        "__getattr__",
        "__setattr__",
        "__reduce_ex__",
        "__init__",
        "__class__",
        "read",
        "",
    ],
)
def test_other_methods_are_not_operators(name: str) -> None:
    target = Tripwire()
    assert isinstance(Desk(target).run((Verb.OP, 0, name, ())).error, NotExposed)
    assert object.__getattribute__(target, "touched") == []


def test_each_step_of_a_program_is_judged_on_what_it_is_done_to() -> None:
    policy = Recorder()
    desk = lab(policy)
    desk.run((Verb.GET, 0, "scale"), (Verb.CALL, 1, (2,), {"by": 2}), (Verb.OP, 2, "__neg__", ()))
    target = desk.target
    assert policy.asked == [(target, Verb.GET, "scale"), (target.scale, Verb.CALL, ""), (4, Verb.OP, "__neg__")]  # type: ignore[attr-defined]


def test_what_comes_to_an_exit_is_an_exception_or_nothing() -> None:
    desk = lab()
    assert isinstance(desk.run_raw([[4, 0, "__exit__", ["no exception"]]]).error, ProtocolError)
    assert desk.target.entered == []  # type: ignore[attr-defined]
