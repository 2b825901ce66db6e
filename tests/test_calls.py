"""A served call: whose caller loses interest; and the short way of one that has its thread for itself, which comes to the same as the long one."""

from __future__ import annotations

import contextvars
import gc
import sys
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import deadlines
from rpyc_gateway.calls import ServedCall, _outcome_of, serving
from rpyc_gateway.places import Runs
from rpyc_gateway.program import Done, Face, Outcome, RaisedAt
from rpyc_gateway.proto.facts import Called
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import Payload, Reader, Writer
from rpyc_gateway.steps import Step, draft_steps, plain_step
from tests.house import open_lab


async def test_cancelling_the_caller_cancels_the_far_task() -> None:
    async with open_lab(3) as lab:
        await lab.execute(
            "import trio\nseen = []\n"
            "async def nap():\n"
            "  try:\n    seen.append('begun')\n    await trio.sleep_forever()\n"
            "  finally: seen.append('over')\n"
        )
        seen = await lab.namespace["seen"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["nap"]())
            while await gw.ops.len(seen) < 1:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        while await gw.ops.len(seen) < 2:
            await trio.lowlevel.checkpoint()
        assert await lab.builtins.tuple(seen) == ("begun", "over")


async def _await(expression: Any) -> None:
    await expression


async def test_a_far_thread_learns_of_a_cancellation_at_its_next_remote_operation() -> None:
    async with open_lab() as lab:
        await lab.execute(
            "ends = []\n"
            "def loop(f):\n"
            "  try:\n    while True: f()\n"
            "  except BaseException as e: ends.append(type(e).__name__)\n"
        )
        ends = await lab.namespace["ends"]
        called = trio.Event()

        async def tick() -> None:
            called.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["loop"](tick))
            await called.wait()
            nursery.cancel_scope.cancel()
        while await gw.ops.len(ends) < 1:
            await trio.lowlevel.checkpoint()
        assert await lab.builtins.tuple(ends) == ("Cancelled",)
        assert lab.statistics().asked == 0


async def test_a_loop_in_a_thread_may_ask_whether_anybody_still_waits() -> None:
    async with open_lab() as lab:
        await lab.execute(
            "import rpyc_gateway as gw\nends = []\n"
            "def loop(begun):\n"
            "  try:\n    begun()\n    while True: gw.checkpoint()\n"
            "  except gw.Cancelled as e: ends.append(str(e))\n"
        )
        ends = await lab.namespace["ends"]
        begun = trio.Event()

        async def tell() -> None:
            begun.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["loop"](tell))
            await begun.wait()
            nursery.cancel_scope.cancel()
        while await gw.ops.len(ends) < 1:
            await trio.lowlevel.checkpoint()
        assert "lost interest" in await ends[0]


def test_outside_of_a_served_call_there_is_nothing_to_cancel() -> None:
    gw.checkpoint()


# -- in the caller's own thread -----------------------------------------------------------------------------------------


class Recorder:
    """A Host that writes down what calls ask of it. Nothing is encoded, and nobody awaits what is spawned."""

    def __init__(self, refusing: str = "") -> None:
        self.policy = self
        self.asking = object()
        self.resting_place = "here"
        self.seen: list[object] = []
        self._refusing = refusing

    def check(self, target: object, verb: Verb, name: str) -> None:
        self.seen.append(("checked", verb, name, serving.get() is not None))
        if self._refusing:
            raise gw.NotExposed(self._refusing)

    def hold(self, refs: Sequence[object]) -> tuple[object, ...]:
        return tuple(refs)

    def show(self, held: Sequence[object], face: Face) -> tuple[object, ...]:
        return tuple(held)

    def open_reader(self, payload: Payload) -> Reader:
        return Reader(payload)

    def spawn(self, call: ServedCall, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        coroutine = call._coroutine
        assert coroutine is not None
        assert call._program is not None
        self.seen.append(("awaits", coroutine.__name__, call.bound, call._program.go_on("what it returned")))
        self.seen.append(("has left whom it ran on", call.outer))  # another thread may go on with it
        coroutine.close()

    def in_trio(self, call: Callable[..., object], *args: object) -> None: ...

    def left(self, call: ServedCall) -> None: ...

    def close_generator(self, generator: object) -> None:
        self.seen.append("closes a generator")

    def submit(self, call: ServedCall, task: Callable[[], object]) -> None: ...

    def answer(self, call: ServedCall, outcome: Outcome) -> None:
        what = outcome.value if type(outcome) is Done else (repr(outcome.error), outcome.step)
        self.seen.append((type(outcome), what, call.begun, call.bound, call.cancelled, serving.get() is call))


def add(a: object, b: object) -> object:
    hooks: Any = sys.get_asyncgen_hooks()
    return a, b, hooks.firstiter, hooks.finalizer.__name__


def raises(*_: object) -> None:
    raise LookupError("this one")


def leaves(*_: object) -> None:
    raise SystemExit(3)


async def nap(*_: object) -> None:
    await trio.sleep_forever()


def time_left(*_: object) -> bool:
    deadline = deadlines.current()
    return deadline is not None and deadline.left > 1000


CALL: Step = (Verb.CALL, 0, (1, "b"), {})
PROGRAMS: dict[str, Sequence[Step]] = {
    "a call": (CALL,),
    "without arguments": ((Verb.CALL, 0, (), {}),),
    "with bytes": ((Verb.CALL, 0, (b"x", None), {}),),
    "with a name": ((Verb.CALL, 0, (1,), {"b": 2}),),
    "with a tuple": ((Verb.CALL, 0, (1, (2, 3)), {}),),
    "two steps": (CALL, (Verb.VALUE, 0, 5)),
    "of a result": ((Verb.CALL, 1, (1, 2), {}),),
    "another verb": ((Verb.GET, 0, "__name__"),),
    "nothing": (),
}
TARGETS: dict[str, object] = {
    "add": add,
    "raises": raises,
    "leaves": leaves,
    "async": nap,
    "no function": 5,
    "a class": dict,
    "time": time_left,
}


def alone(call: ServedCall) -> object | None:
    """The short way, for what it is for."""
    assert call._called is not None
    call.operand = plain_step(call._called.payload)
    if call.operand is None:
        return call.serve()
    return call.serve_alone() if call.bound else call.serve_apart()


def served(
    serve: Callable[[ServedCall], object],
    called: Called,
    *,
    bound: bool = True,
    where: Runs = "threads",
    cancelled: bool = False,
    refusing: str = "",
) -> list[object]:
    """What comes of a call."""
    host = Recorder(refusing)
    call = ServedCall(host, called, where)
    call.bound = bound
    call.cancelled = cancelled
    hooks = sys.get_asyncgen_hooks()
    try:
        place = serve(call)
        assert bound or sys.get_asyncgen_hooks() == hooks
    finally:
        sys.set_asyncgen_hooks(*hooks)
    return [
        *host.seen,
        call._called,
        call.outer,
        call.inner,
        place,
        serving.get(),
        deadlines.current(),
        call.bound,
        call.begun,
    ]


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("refusing", ["", "not that"])
@pytest.mark.parametrize("deadline", [0, 10_000_000])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_call_that_is_served_the_short_way_comes_to_what_the_long_one_does(
    program: str,
    target: str,
    deadline: int,
    refusing: str,
    cancelled: bool,  # noqa: FBT001
) -> None:
    draft = draft_steps(PROGRAMS[program], lambda: Writer(lambda value: value))
    called = Called(1, TARGETS[target], Payload(draft.packed), 2, 3, deadline)
    ways = [
        contextvars.copy_context().run(served, way, called, cancelled=cancelled, refusing=refusing)
        for way in (alone, ServedCall.serve)
    ]
    assert ways[0] == ways[1]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("where", ["threads", "trio"])
@pytest.mark.parametrize("deadline", [0, 10_000_000])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_same_is_true_on_the_stack_of_another(
    program: str,
    target: str,
    deadline: int,
    where: Runs,
    nested: bool,  # noqa: FBT001
) -> None:
    draft = draft_steps(PROGRAMS[program], lambda: Writer(lambda value: value))
    called = Called(1, TARGETS[target], Payload(draft.packed), 2, 3, deadline)

    def serve(way: Callable[[ServedCall], object]) -> list[object]:
        outer = ServedCall(Recorder(), called)
        serving.set(outer if nested else None)
        return [
            *served(way, called, bound=False, where=where)[:-5],
            serving.get() is (outer if nested else None),
            outer.inner,
        ]

    ways = [contextvars.copy_context().run(serve, way) for way in (alone, ServedCall.serve)]
    assert ways[0] == ways[1]


def test_an_interrupt_in_a_callback_is_passed_on_whichever_way_it_went() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    draft = draft_steps([(Verb.CALL, 0, (), {})], lambda: Writer(lambda value: value))
    called = Called(1, interrupted, Payload(draft.packed), 2, 3, 0)
    for way in (alone, ServedCall.serve):
        with pytest.raises(KeyboardInterrupt):
            served(way, called, bound=False)
        served(way, called, bound=False, where="trio")


@pytest.mark.parametrize(
    "packed",
    [
        b"\x91\x94\x03\x00",
        b"\x91\x94\x03\x00\x05\x90",
        b"\x91\x94\x03\x00\x90\x05",
        b"\x91\x94\x03\x00\x90\x90\x00",
        b"\x91\x93\x00\x00\x05",
        b"\x91\x93\x00\x00",
    ],
)
def test_a_call_that_cannot_be_read_is_the_long_way_s_to_complain_about(packed: bytes) -> None:
    called = Called(1, add, Payload(packed), 2, 3, 0)
    for way in (alone, ServedCall.serve):
        (answer, *_) = served(way, called)
        assert isinstance(answer, tuple)
        kind, (error, _) = answer[:2] if answer[0] is RaisedAt else served(way, called)[1][:2]
        assert kind is RaisedAt
        assert "ProtocolError" in error


class Watched(ServedCall):
    """Notes whether it had begun when somebody looked whether it is cancelled."""

    looks: list[bool]

    @property
    def cancelled(self) -> bool:  # type: ignore[override]
        self.looks.append(self.begun)
        return False


@pytest.mark.parametrize("way", [alone, ServedCall.serve])
def test_a_call_has_begun_before_it_looks_whether_it_was_cancelled(way: Callable[[ServedCall], object]) -> None:
    # Else whoever cancels it in between finds that it has not begun, and leaves the next call behind it in a thread that may be stuck.
    draft = draft_steps([CALL], lambda: Writer(lambda value: value))
    call = Watched(Recorder(), Called(1, add, Payload(draft.packed), 2, 3, 0))
    call.looks = []
    way(call)
    assert call.looks[0] is True


class Thing:
    """What a call has among its variables."""


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("where", ["threads", "trio"])
@pytest.mark.parametrize("way", [alone, ServedCall.serve])
@pytest.mark.parametrize("step", [CALL, (Verb.GET, 0, "attribute")])
def test_what_a_call_that_raised_had_dies_when_it_is_answered(
    step: Step,
    way: Callable[[ServedCall], object],
    where: Runs,
    bound: bool,  # noqa: FBT001
) -> None:
    things: list[weakref.ref[Thing]] = []

    class Target:
        def __call__(self, *_: object) -> None:
            thing = Thing()
            things.append(weakref.ref(thing))
            raise LookupError("this one")

        attribute = property(__call__)

    draft = draft_steps([step], lambda: Writer(lambda value: value))
    called = Called(1, Target(), Payload(draft.packed), 2, 3, 0)
    gc.disable()  # it would find the error, its traceback and our frame if they kept each other
    try:
        contextvars.copy_context().run(served, way, called, bound=bound, where=where)
        assert [thing() for thing in things] == [None]
    finally:
        gc.enable()


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("way", [alone, ServedCall.serve])
def test_what_the_peer_gave_back_and_others_had_is_dropped_before_the_call_runs(
    way: Callable[[ServedCall], object],
    cancelled: bool,  # noqa: FBT001
) -> None:
    kept = Thing()
    gone = weakref.ref(kept)
    seen: list[object] = []
    draft = draft_steps([(Verb.CALL, 0, (), {})], lambda: Writer(lambda value: value))
    call = ServedCall(Recorder(), Called(1, lambda: seen.append(gone()), Payload(draft.packed), 2, 3, 0))
    call.cancelled = cancelled
    call.shared = [kept]
    del kept
    way(call)
    assert (seen, gone()) == ([] if cancelled else [None], None)


class Interrupted(Recorder):
    """A Host whose thread hears Ctrl-C when it is about to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.gone: list[ServedCall] = []

    def answer(self, call: ServedCall, outcome: Outcome) -> None:
        raise KeyboardInterrupt

    def left(self, call: ServedCall) -> None:
        self.gone.append(call)


@pytest.mark.parametrize("way", [alone, ServedCall.serve])
def test_a_call_that_is_interrupted_where_its_code_does_not_run_is_not_counted_for_ever(
    way: Callable[[ServedCall], object],
) -> None:
    draft = draft_steps([CALL], lambda: Writer(lambda value: value))
    host = Interrupted()
    call = ServedCall(host, Called(1, add, Payload(draft.packed), 2, 3, 0))
    with pytest.raises(KeyboardInterrupt):
        way(call)
    assert host.gone == [call]


async def two_tasks(at_the_end: Callable[[], None] = lambda: None) -> str:
    """An `async def` with a nursery, each of whose tasks is cancelled when it is."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        try:
            await trio.sleep_forever()
        finally:
            at_the_end()
    return "done"


async def test_a_nursery_in_what_is_cancelled_is_no_answer() -> None:
    with trio.move_on_after(0) as scope:
        await _outcome_of(two_tasks())
    assert scope.cancelled_caught


async def test_what_fails_in_a_nursery_that_is_cancelled_is_the_answer() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with trio.move_on_after(0):
        value, error = await _outcome_of(two_tasks(fail))
    assert value is None
    assert isinstance(error, ExceptionGroup)
    assert [type(one) for one in error.exceptions] == [ZeroDivisionError]


async def test_what_fails_in_a_nursery_is_told_as_it_is() -> None:
    group = ExceptionGroup("two", [ValueError(1), KeyError(2)])

    async def fail() -> None:
        raise group

    assert await _outcome_of(fail()) == (None, group)
