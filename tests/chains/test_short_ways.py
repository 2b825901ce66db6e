"""Whatever is said in a session, the short ways come to what the long ones do: the same values and messages, and nothing is left."""

from __future__ import annotations

import enum
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import rpyc_gateway as gw
from rpyc_gateway import answering, asking, session
from rpyc_gateway.connection import Connection
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.mux import Mux
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.proto.values import LARGE
from rpyc_gateway.references import References
from rpyc_gateway.session import Session
from tests.blocking_house import House, open_blocking_lab

LAB = """
class Thing:
    def __init__(self, value): self.value = value
    def __repr__(self): return "a thing"
    def double(self): return self.value * 2
    def me(self): return self
    def __getitem__(self, index): return self.value, index
def identity(value): return value
def fail(value): raise LookupError(value)
def apply(function, value): return function(value)
def count(n): yield from range(n)
async def later(value): return value
later_twice = lambda value: (later(value), 5)
raisable = LookupError("kept")
"""


MINE, THEIRS = "one of mine", "one of theirs"


class Colour(enum.IntEnum):
    RED = 3


class Mine:
    """An object of this process."""

    def __repr__(self) -> str:
        return MINE


NOTHING: Callable[..., None] = lambda *_: None  # noqa: E731


@pytest.fixture(scope="module", params=[1, 3], ids=["0 relays", "2 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with pytest.MonkeyPatch.context() as patch, open_blocking_lab(request.param) as house:
        patch.setattr(session, "SWEEP", 1e6)  # what is given back goes with the next message, whenever that is
        yield house


def force_long_ways(patch: pytest.MonkeyPatch) -> None:
    """Let every short way say that it is none."""
    for owner, names in ((Rpc, ("hear", "answer_alone", "one_message")), (Mux, ("hear", "say"))):
        for name in names:
            patch.setattr(owner, name, NOTHING)
    patch.setattr(Rpc, "ask", lambda rpc, *facts, **more: (rpc.call(*facts, **more), None))
    patch.setattr(Connection, "pass_on", NOTHING)
    patch.setattr(References, "take_one", NOTHING)
    patch.setattr(References, "lend_one", NOTHING)
    patch.setattr(asking.Asking, "_value_at_once", lambda *_: asking.UNREAD)
    patch.setattr(answering, "plain_step", NOTHING)
    patch.setattr(answering.Answering, "serve", answering.Answering._serve_slowly)
    patch.setattr(Session, "call_heard", lambda self, data: self.call_received(data))


# -- what is said ---------------------------------------------------------------------------------------------------------

atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=80)
    | st.sampled_from(["\ud800", "x" * LARGE, "x" * (LARGE + 1), Colour.RED, 2**63, 2**64 - 1, 2**64, "", b""])
    | st.sampled_from([0, 1, 63, 64, LARGE - 9, LARGE, LARGE + 1, 20_000]).map(bytes)
)
operands = st.recursive(
    atoms | st.sampled_from([MINE, THEIRS]).map(lambda whose: [whose]),
    lambda inner: st.tuples(inner) | st.tuples(inner, inner),
    max_leaves=4,
)
steps = st.one_of(
    *(st.tuples(st.just(name), operands) for name in ("identity", "fail", "apply", "later", "make", "nest", "name")),
    *(st.tuples(st.just(name), st.none()) for name in ("drop", "double", "me", "item", "raisable", "missing", "given")),
    st.tuples(st.just("count"), st.integers(0, 5)),
)


class Story:
    """One session, from its first word to its last."""

    def __init__(self, conn: gw.BlockingSession) -> None:
        self.conn = conn
        conn.execute(LAB)
        self.functions = {
            name: conn.namespace[name] for name in ("identity", "fail", "apply", "later", "count", "Thing")
        }
        self.things: list[Any] = [self.functions["Thing"](1)]
        self.mine = Mine()

    def operand(self, value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(self.operand, value))
        if type(value) is list:
            return self.mine if value == [MINE] else self.things[-1]
        return value

    def tell(self, value: Any) -> str:
        """A value, without the numbers and places that differ from session to session."""
        if type(value) is tuple:
            return f"({', '.join(map(self.tell, value))})"
        if value is self.mine:
            return MINE
        if any(value is thing for thing in self.things):
            return THEIRS
        return f"{type(value).__name__} {value!r}" if type(value).__module__ == "builtins" else type(value).__name__

    def do(self, verb: str, operand: Any) -> Any:
        value, functions, thing = self.operand(operand), self.functions, self.things[-1]
        apply, identity = functions["apply"], functions["identity"]
        others: dict[str, Callable[[], Any]] = {
            "apply": lambda: apply(lambda x: x, value),
            "nest": lambda: apply(lambda x: apply(lambda y: (identity(y), self.mine), x), value),
            "make": lambda: (self.things.append(functions["Thing"](value)), self.things[-1].value),
            "drop": lambda: self.things.__delitem__(slice(1, None)),
            "double": lambda: thing.double(),
            "me": lambda: thing.me(),
            "item": lambda: thing[1],
            "raisable": lambda: self.conn.namespace["raisable"].args,
            "missing": lambda: thing.missing,
            "given": lambda: apply(Mine, 3),  # raises here, and there, and here
            "name": lambda: identity(value=value),
            "count": lambda: tuple(functions["count"](value)),
        }
        return others[verb]() if verb in others else functions[verb](value)

    def step(self, verb: str, operand: Any) -> str:
        try:
            return self.tell(self.do(verb, operand))
        except Exception as error:  # noqa: BLE001  # it is what came of it
            return f"raised {type(error).__name__} {self.tell(error.args) if type(error) is LookupError else ''}"


def normal(data: bytes) -> Iterator[object]:
    """Messages without the numbers of their objects: which one gets a new number depends on when it was given back, which is left out, too."""
    for message in m.Splitter().receive_data(data):
        if type(message) is m.Call:
            yield replace(message, refs=(), number=0, affinity=0), [(ref.kind, ref.cls) for ref in message.refs]
        elif type(message) is m.Answer:
            yield replace(message, refs=()), [(ref.kind, ref.cls) for ref in message.refs]
        elif type(message) is m.Raise:  # it has a traceback, which names our own lines
            yield replace(message, refs=(), exception=b""), [(ref.kind, ref.cls) for ref in message.refs]
        elif type(message) is not m.Release:
            yield type(message).__name__


def listen(said: list[object], name: str, which: Session) -> None:
    circuit: Any = which.circuit
    send = circuit.send
    circuit.send = lambda data: (said.extend((name, each) for each in normal(bytes(data))), send(data))[1]


def told(house: House, story: list[tuple[str, Any]]) -> tuple[list[str], list[object]]:
    """What a story came to: its values, and what was said on the `call` circuit. Everything has been given back in the end."""
    with house.connect(name="laptop") as conn:
        said: list[object] = []
        conn.ping()
        (far,) = house.sessions()
        listen(said, "near", conn._session)
        listen(said, "far", far)
        told = Story(conn)
        values = [told.step(*each) for each in story]
        del told
        whole = list(said)
        for _ in range(1000):  # what one side gives back goes with its next message, and may hold objects of the other
            gc.collect()
            conn.ping()
            left = [one.statistics()[:6] for one in (conn._session, far)]
            if not any(map(any, left)):
                break
        assert left == [(0,) * 6] * 2
        for one in (conn._session, far):
            assert [*one.asking._waiters, *one.asking.by_cause, *one._answering._served] == []
    house.until_empty()
    return values, whole


@settings(max_examples=30, deadline=None)
@given(story=st.lists(steps, max_size=12))
@example(story=[("make", 5), ("drop", None), ("double", None), ("make", [MINE]), ("drop", None), ("identity", 3)])
@example(story=[("later", 1), ("fail", (1, [THEIRS])), ("nest", [MINE]), ("raisable", None), ("count", 3)])
def test_a_session_is_the_same_by_short_ways_and_long_ones(house: House, story: list[tuple[str, Any]]) -> None:
    short = told(house, story)
    with pytest.MonkeyPatch.context() as patch:
        force_long_ways(patch)
        long = told(house, story)
    assert short == long
