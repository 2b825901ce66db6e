"""What cannot be sent, what raises whatever one does with it, and a peer that lies: one operation fails, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

import rpyc_gateway as gw
from rpyc_gateway.held import Held, held_by
from rpyc_gateway.proto.messages import Answer, ClassInfo, Message, Raise, Ref, RefKind, Release, Splitter, encode
from rpyc_gateway.proxy import blocking_proxy
from tests.conformance.far import Far

SETUP = """
def echo(x): return x
def hold(x): kept.append(x)
def drop(): kept.clear()
def make(text): return eval(text)
def fail(text): raise ValueError(eval(text))
def deep(n):
    value = ()
    for _ in range(n): value = (value,)
    return value
class Thing: pass
kept, thing = [], Thing()
"""


@pytest.fixture(params=[0, 1, 3])
def far_things(far: Far, request: pytest.FixtureRequest) -> Iterator[Any]:
    """What the setup made, on a session that is empty in the end, while another session goes on."""
    with far.lent(request.param) as conn:
        bystander = gw.connect(far.url(0), node="lab", name="bystander")
        things = dict(conn.namespace["make_names"](SETUP)[0])
        yield things
        things.clear()  # pytest keeps the dict for a while
        assert bystander.eval("1 + 1") == 2
        bystander.close()


def test_a_lone_surrogate_and_a_huge_integer_are_values_like_others(far_things: Any) -> None:
    for value in ("\ud800", "a\udc80b", 10**5000, -(10**5000), ("\ud800", 10**5000)):
        assert far_things["echo"](value) == value
        far_things["thing"].x = value
        assert far_things["thing"].x == value
    assert far_things["make"]("chr(0xD800)") == "\ud800"
    assert far_things["make"]("10**5000") == 10**5000
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # what it says is looked at below
        far_things["fail"]("'\\ud800', 10**5000")
    assert caught.value.args == (("\ud800", 10**5000),)
    with pytest.raises(gw.EncodeError, match="name"):
        getattr(far_things["thing"], "\ud800")


def _deep(depth: int) -> object:
    value: object = ()
    for _ in range(depth):
        value = (value,)
    return value


OPERATIONS: dict[str, Callable[[Any, object], object]] = {
    "an argument": lambda far, value: far["echo"](value),
    "a keyword argument": lambda far, value: far["echo"](x=value),
    "an attribute": lambda far, value: setattr(far["thing"], "x", value),
    "an item": lambda far, value: far["kept"].__setitem__(slice(0, 0), value),
    "an operand": lambda far, value: far["kept"] == [value],
    "a key": lambda far, value: {}.get(value) or far["kept"].index(value),
    "a result of ours": lambda far, value: far["make"]("lambda f: f()")(lambda: value),
}


@pytest.mark.parametrize("use", OPERATIONS.values(), ids=OPERATIONS)
def test_a_tuple_nested_too_deep_fails_where_it_is_used(use: Callable[[Any, object], object], far_things: Any) -> None:
    with pytest.raises((gw.EncodeError, gw.LimitExceeded, RecursionError), match=r"deep|nest|recursion"):
        use(far_things, _deep(2000))
    assert far_things["echo"](1) == 1


def test_a_result_and_an_exception_nested_too_deep_fail_there(far_things: Any) -> None:
    with pytest.raises((gw.EncodeError, gw.LimitExceeded, gw.RemoteError), match=r"deep|nest"):
        far_things["deep"](2000)
    with pytest.raises(ValueError):  # noqa: PT011  # what it says cannot be sent
        far_things["fail"]("deep(2000)")
    assert far_things["echo"]((1, 2)) == (1, 2)


class Poison:
    """Its codec raises while it is encoded, or while it is decoded."""

    def __init__(self, when: str) -> None:
        self.when = when


def _encode(value: Poison) -> object:
    if value.when == "encoding":
        raise ArithmeticError("while it is encoded")
    return value.when


def _decode(when: Any) -> Poison:
    if when == "decoding":
        raise ArithmeticError("while it is decoded")
    return Poison(when)


gw.register_codec(Poison, _encode, _decode, name="conformance.Poison")


@pytest.mark.parametrize("when", ["encoding", "decoding"])
def test_a_value_that_raises_on_its_way(when: str, far_things: Any) -> None:
    poison = Poison(when)
    for use in (
        lambda: far_things["echo"](poison),
        lambda: far_things["echo"]((1, poison, [2])),
        lambda: setattr(far_things["thing"], "x", poison),
        lambda: far_things["make"]("lambda f: f()")(lambda: poison),
    ):
        with pytest.raises((ArithmeticError, gw.GatewayError), match="while it is"):
            use()
    assert far_things["echo"](Poison("fine")).when == "fine"


# -- objects that raise whatever one does with them


HOSTILE = """
class Boom(Exception): pass
def boom(*_args, **_kwargs): raise Boom("on purpose")
def hostile(name): return type("Hostile", (), {name: boom})()
"""
NAMES = ("__getattr__", "__getattribute__", "__eq__", "__hash__", "__repr__", "__str__", "__bool__", "__len__", "__iter__", "__contains__",
         "__call__", "__dir__", "__format__", "__reduce_ex__", "__sizeof__", "__del__")  # fmt: skip
USES: dict[str, Callable[[Any], object]] = {
    "__getattr__": lambda one: one.x,
    "__getattribute__": lambda one: one.x,
    "__eq__": lambda one: one == 1,
    "__hash__": hash,
    "__repr__": repr,
    "__str__": str,
    "__bool__": bool,
    "__len__": len,
    "__iter__": list,
    "__contains__": lambda one: 1 in one,
    "__call__": lambda one: one(),
    "__dir__": dir,
    "__format__": lambda one: f"{one:>5}",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_object_of_theirs_that_raises(name: str, far_things: Any) -> None:
    exec_far = far_things["make"]("exec")
    scope = far_things["make"]("{}")
    exec_far(HOSTILE, scope)
    one = scope["hostile"](name)
    far_things["hold"](one)
    assert far_things["echo"](one) is one
    if name in USES:
        with pytest.raises(Exception, match="on purpose") as caught:
            USES[name](one)
        assert type(caught.value).__name__ == "Boom"
    far_things["drop"]()
    assert far_things["echo"](5) == 5


def _hostile(name: str) -> object:
    def boom(*_args: object, **_kwargs: object) -> object:
        raise ArithmeticError("on purpose")

    return type("Hostile", (), {name: boom})()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_object_of_ours_that_raises(name: str, far_things: Any) -> None:
    one = _hostile(name)
    assert far_things["echo"](one) is one
    far_things["hold"](one)
    assert far_things["kept"][0] is one
    use = {
        "__getattr__": "lambda one: one.x",
        "__getattribute__": "lambda one: one.x",
        "__eq__": "lambda one: one == 1",
        "__hash__": "hash",
        "__repr__": "repr",
        "__str__": "str",
        "__bool__": "bool",
        "__len__": "len",
        "__iter__": "list",
        "__contains__": "lambda one: 1 in one",
        "__call__": "lambda one: one()",
        "__dir__": "dir",
        "__format__": "lambda one: f'{one:>5}'",
    }.get(name)
    if use is not None:
        with pytest.raises(ArithmeticError, match="on purpose"):
            far_things["make"](use)(one)
    far_things["drop"]()
    assert far_things["echo"](5) == 5


# -- a peer that lies


@contextmanager
def _lying(far: Far, lie: Callable[[Message], Message]) -> Iterator[Any]:
    """What the lab of a session of its own says is changed on its way."""
    with gw.connect(far.url(1), node="lab", name="deceived") as conn:
        conn.execute(SETUP)
        names = conn.namespace
        circuit: Any = far.newest_end().circuit
        honest = circuit.send

        def send(data: bytes) -> None:
            honest(b"".join(encode(lie(message)) for message in Splitter().receive_data(data)))

        circuit.send = send
        yield conn, names
        circuit.send = honest
        conn.ping()


PACK = msgspec.msgpack.encode
REFERENCE = PACK(msgspec.msgpack.Ext(8, PACK(0)))
BAD_ANSWERS = {
    "no MessagePack": (b"\xc1", ()),
    "cut short": (b"\x92\x01", ()),
    "an unknown extension": (PACK(msgspec.msgpack.Ext(99, b"")), ()),
    "a map": (PACK({"a": 1}), ()),
    "a reference that is not there": (REFERENCE, ()),
    "an object of ours never given": (REFERENCE, (Ref(RefKind.HOME, 987654321),)),
    "a step of no program": (PACK(msgspec.msgpack.Ext(9, PACK(1))), ()),
    "a range of nothing": (PACK(msgspec.msgpack.Ext(7, PACK([1, "a", None]))), ()),
    "a copy that nobody knows": (PACK(msgspec.msgpack.Ext(11, PACK(["no such codec", 1]))), ()),
    "a date that is none": (PACK(msgspec.msgpack.Ext(11, PACK(["date", [2024, 13, 45]]))), ()),
    "an unhashable set": (PACK(msgspec.msgpack.Ext(5, PACK([msgspec.msgpack.Ext(11, PACK(["list", [1]]))]))), ()),
}


@pytest.mark.parametrize("packed", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
@pytest.mark.parametrize("kind", [Answer, Raise])
def test_a_reply_that_cannot_be_decoded_fails_its_call_only(kind: Any, packed: tuple[bytes, Any], far: Far) -> None:
    lies = 1

    def lie(message: Message) -> Message:
        nonlocal lies
        if type(message) is not Answer or not lies:
            return message
        lies -= 1
        return kind(message.question, packed[0], packed[1])

    with _lying(far, lie) as (conn, names):
        with pytest.raises(gw.GatewayError):
            names["echo"]
        assert names["echo"](5) == 5
        assert conn.ping(6) == 6
    with far.lent(1) as other:
        assert other.eval("1 + 1") == 2


def _never_given(conn: gw.BlockingSession, number: int) -> Any:
    """A proxy for a number of the peer's that it never gave us."""
    real = held_by(conn.root)
    held = Held(real.caller, number, ClassInfo(module="builtins", name="object"), None, None)
    with conn._session._connection.turn:
        return blocking_proxy(held)


def test_numbers_that_were_never_given(far: Far) -> None:
    with far.lent(1) as conn:
        fake = _never_given(conn, 123456789)
        for use in (
            lambda: fake.x,
            lambda: conn.builtins.len(fake),
            lambda: conn.builtins.print((1, fake)),
            lambda: setattr(conn.builtins.object, "x", fake),
            lambda: repr(conn.builtins.list((fake,))),
        ):
            with pytest.raises(gw.GatewayError, match="123456789"):
                use()
        assert conn.eval("1 + 1") == 2


def test_giving_back_what_was_never_given_costs_the_session_of_whoever_did_it(far: Far) -> None:
    with far.lent(3) as other, gw.connect(far.url(3), node="lab", name="careless") as conn:
        with conn._session._connection.turn:
            conn._session.circuit.send(encode(Release((123456789, 1))))
        with pytest.raises((gw.ProtocolError, gw.SessionClosed, gw.LinkLost)):
            _ping_for_ever(conn)
        assert other.eval("1 + 1") == 2


def _ping_for_ever(conn: gw.BlockingSession) -> None:
    while True:
        conn.ping()
