"""Exceptions cross whole: their type where it is known, what they say, what led to them; and a peer gets no power by them."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import Denied, LinkLost, ProtocolError, RemoteError
from rpyc_gateway.proto.kinds import Kinds
from rpyc_gateway.proto.raised import (
    DEPTH,
    NOTES,
    Ticket,
    Way,
    read_exception,
    redeem,
    remote_path,
    remote_traceback,
    way_home,
    write_exception,
)
from rpyc_gateway.proto.values import Described, Ext, Payload, Reader, Undecided, Writer

FAR, NEAR = Kinds(b"f" * 16), Kinds(b"n" * 16)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors/exceptions.json").read_text())["exceptions"]


def there(error: BaseException, node: str = "lab-7", way: tuple[str, ...] = ()) -> Any:
    """An exception as it arrives at the other side; objects that go by reference arrive as themselves."""
    writer = Writer(lambda thing: thing)
    draft = writer.finish(write_exception(error, writer, node, kinds=FAR))
    bodies = tuple(bytes(body) for body in draft.bodies)
    reader = Reader(Payload(draft.packed, (), bodies), draft.refs)
    return read_exception(reader.structure(), reader, way, kinds=NEAR)


def read(structure: object, refs: tuple[object, ...] = ()) -> Any:
    reader = Reader(Payload(msgspec.msgpack.encode(structure)), refs)
    return read_exception(reader.structure(), reader)


def shape(
    *mro: str, args: tuple[object, ...] = (), attributes: tuple[object, ...] = (), **more: object
) -> list[object]:
    """What a peer may send: `mro` as "module:name"."""
    parts: dict[str, object] = {"notes": [], "cause": None, "context": None, "suppress": False, "children": None}
    parts |= {"trace": "", "text": "it broke", "path": ["lab-7"]} | more
    return [[name.split(":") for name in mro], list(args), list(attributes), *parts.values()]


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


async def cancelled() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            caught = error
    raise BaseExceptionGroup("wrapped", [caught]).exceptions[0] from None


class LabError(Exception):
    """Known here. Its constructor must not run on a peer's words."""

    def __init__(self, channel: int) -> None:
        super().__init__(f"channel {channel} broke")
        self.channel = channel


class LabGroup(ExceptionGroup[Exception]):
    """A group with a name of its own."""


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """As `raise error from cause` where the cause was caught."""
    error.__cause__ = error.__context__ = cause
    return error


def described(value: Any) -> Described:
    """What stands for an exception, or a class of them, that is a value."""
    if type(value) is type:
        return Described(value, lambda writer: FAR.write(value))
    return Described(value, lambda writer: write_exception(value, writer, "lab", kinds=FAR))


# -- the bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"])
def test_the_bytes_of_the_table(vector: dict[str, Any]) -> None:
    value = eval(vector["value"])
    writer = Writer(described)
    if vector["row"] == "raised":
        ticket = (lambda error: writer.attach(Ticket(error))) if vector.get("ticket") else None
        draft = writer.finish(write_exception(value, writer, "lab", kinds=FAR, itself=ticket))
    else:
        draft = writer.finish(writer.value(value))
    assert draft.packed.hex() == vector["hex"]
    assert len(draft.refs) == vector.get("refs", 0)


# -- the way home -------------------------------------------------------------------------------------------------------


def test_a_long_way_is_shown_in_short_and_known_in_full() -> None:
    way = [str(number) for number in range(100)]
    error = read(shape("builtins:KeyError", "builtins:Exception", trace="there", path=way))
    (note,) = error.__notes__
    assert note.startswith(
        "--- remote traceback (0 -> 1 -> 2 -> 3 -> 4 -> 5 -> 6 -> 7 -> 8 -> 9 -> ... 89 more ... -> 99)"
    )
    assert remote_path(error) == tuple(way)


def test_what_comes_home_is_itself_and_knows_where_it_was() -> None:
    error = raised(lambda: {}["mine"])
    notes = ["in channel 3"]
    error.__notes__ = notes  # type: ignore[attr-defined]
    structure = shape("builtins:KeyError", "builtins:Exception", trace="there", path=["hq", "lab"])
    home = msgspec.msgpack.Ext(8, b"\0")
    assert read([*structure, home], (error,)) is error
    assert read([*structure, home], (error,)) is error
    assert error.__notes__ == ["in channel 3", "--- remote traceback (hq -> lab) ---\nthere"]
    assert (remote_traceback(error), remote_path(error)) == ("there", ("hq", "lab"))


def test_what_it_was_given_as_its_cause_on_the_way_stays() -> None:
    error, own_cause = ValueError("mine"), OSError("mine too")
    structure = shape(
        "builtins:ValueError", "builtins:Exception", cause=shape("builtins:KeyError", "builtins:Exception")
    )
    read([*structure, msgspec.msgpack.Ext(8, b"\0")], (error,))
    assert type(error.__cause__) is KeyError
    error.__cause__ = own_cause
    read([*structure, msgspec.msgpack.Ext(8, b"\0")], (error,))
    assert error.__cause__ is own_cause


@pytest.mark.parametrize("other", [SystemExit(3), KeyboardInterrupt(), ValueError, [1], None, "text"], ids=repr)
def test_only_an_ordinary_exception_comes_home_as_itself(other: object) -> None:
    structure = [*shape("builtins:ValueError", "builtins:Exception"), msgspec.msgpack.Ext(8, b"\0")]
    assert type(read(structure, (other,))) is ValueError
    group = shape("builtins:ExceptionGroup", "builtins:Exception", args=("g",), children=[structure], cause=structure)
    copy = read(group, (other,))
    assert type(copy.exceptions[0]) is ValueError
    assert type(copy.__cause__) is ValueError


def test_a_ticket_says_nothing_of_its_exception() -> None:
    error = ValueError("secret")
    ticket = Ticket(error)
    assert [name for name in dir(ticket) if not name.startswith("_")] == []
    assert "secret" not in repr(ticket)
    assert redeem(ticket) is error
    assert redeem(error) is error


def test_a_copy_knows_its_way_home_and_forgets_it_when_it_is_copied() -> None:
    way = Way(object())
    copy_of_it = read([*shape("builtins:ValueError", "builtins:Exception"), msgspec.msgpack.Ext(8, b"\0")], (way,))
    assert way_home(copy_of_it) is way.held
    assert way_home(ValueError()) is None
    assert way_home(pickle.loads(pickle.dumps(copy_of_it))) is None


# -- values -------------------------------------------------------------------------------------------------------------


def test_a_description_is_sent_once_and_does_not_follow_itself() -> None:
    error = ValueError()
    error.args = (error, error)
    writer = Writer(described)
    draft = writer.finish(writer.value((error, error)))
    assert len(draft.packed) < 300
    assert all(ref is error for ref in draft.refs)
    became: list[object] = []
    refs = [Undecided(lambda reader, description: became.append(description))] * len(draft.refs)
    assert Reader(Payload(draft.packed), refs).read() == (None, None)
    assert [type(description) for description in became] == [list, type(None)]


def test_descriptions_inside_each_other_end() -> None:
    error = ValueError("end")
    for _ in range(50):
        error = ValueError(error)
    writer = Writer(described)
    draft = writer.finish(writer.value(error))
    assert len(draft.refs) == 5
    structure: Any = [0, shape("builtins:ValueError", "builtins:Exception")]
    for _ in range(50):
        item = msgspec.msgpack.Ext(Ext.DESCRIBED, msgspec.msgpack.encode(structure))
        structure = [0, shape("builtins:ValueError", "builtins:Exception", args=(item,))]
    undecided = Undecided(lambda reader, description: read_exception(description, reader))
    with pytest.raises(ProtocolError, match="inside each other"):
        Reader(Payload(msgspec.msgpack.encode(item)), [undecided]).read()


@pytest.mark.parametrize("structure", [[0], [-1, []], ["0", []], 7, [9, []], None])
def test_a_description_of_nothing_is_a_protocol_error(structure: object) -> None:
    item = msgspec.msgpack.Ext(Ext.DESCRIBED, msgspec.msgpack.encode(structure))
    with pytest.raises(ProtocolError):
        Reader(Payload(msgspec.msgpack.encode(item)), [Undecided(lambda *_: None)]).read()


# -- what survives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no", 1, (2.5, None)),
        KeyError("missing"),
        StopIteration(42),
        IndexError(),
        ZeroDivisionError("\ud800 and more"),
        raised(lambda: json.loads("{")),
        raised(lambda: zlib.decompress(b"x")),
        raised(lambda: sqlite3.connect("/no/such/place")),
        subprocess.CalledProcessError(3, ("cmd",)),
        LabError(7),
        sqlite3.OperationalError("locked"),
        AssertionError("x" * 10_000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_type_arguments_and_attributes_survive(error: BaseException) -> None:
    copy = there(error)
    assert type(copy) is type(error)
    assert copy.args == error.args
    assert str(copy) == str(error)
    own = {name: value for name, value in vars(error).items() if not name.startswith("__")}
    assert {name: vars(copy)[name] for name in own} == own


def test_an_object_among_the_arguments_is_a_reference() -> None:
    thing = [1]
    assert there(KeyError(thing)).args[0] is thing


def test_a_file_that_is_missing_has_its_name_and_its_type() -> None:
    copy = there(raised(lambda: open("/no/such/file")))  # noqa: SIM115
    assert type(copy) is FileNotFoundError
    assert (copy.errno, copy.filename) == (2, "/no/such/file")
    assert str(copy) == "[Errno 2] No such file or directory: '/no/such/file'"
    copy = there(OSError(18, "not there", "a", None, "b"))
    assert (copy.filename, copy.filename2) == ("a", "b")
    copy = there(OSError(2, "not there", Path("/no/such/file")))
    assert (type(copy), copy.filename) == (FileNotFoundError, "/no/such/file")


def test_an_oserror_of_one_word_may_have_a_name_too() -> None:
    error = OSError("it broke")
    error.filename = "/dev/ttyUSB0"
    copy = there(error)
    assert (copy.args, copy.filename, copy.errno) == (("it broke",), "/dev/ttyUSB0", None)


def test_what_cannot_be_decoded_is_said() -> None:
    copy = there(raised(lambda: b"caf\xe9".decode()))
    assert type(copy) is UnicodeDecodeError
    assert (copy.encoding, copy.object, copy.start, copy.end) == ("utf-8", b"caf\xe9", 3, 4)


def test_what_builtins_take_as_keywords_survives() -> None:
    copy = there(raised(lambda: __import__("no_such_module")))
    assert (type(copy), copy.name) == (ModuleNotFoundError, "no_such_module")
    assert there(raised(lambda: nothing)).name == "nothing"  # type: ignore[name-defined]  # noqa: F821
    assert there(raised(lambda: len.nothing)).name == "nothing"  # type: ignore[attr-defined]
    assert there(StopIteration(42)).value == 42
    assert there(raised(lambda: compile("1 +", "file", "exec"))).lineno == 1


def test_notes_survive_and_the_traceback_is_one_more() -> None:
    error = raised(lambda: 1 / 0)
    error.add_note("in channel 3")
    copy = there(error, way=("relay", "desk"))
    ours, theirs = copy.__notes__
    assert ours == "in channel 3"
    assert theirs.startswith("--- remote traceback (lab-7 -> desk) ---")
    assert "1 / 0" in theirs
    assert remote_traceback(copy).rstrip() in theirs
    assert "in channel 3" not in theirs  # it is said once
    assert remote_path(copy) == ("lab-7", "desk")
    assert remote_path(error) == ()
    assert remote_traceback(error) == ""


def test_a_second_hop_adds_to_the_way_and_not_to_the_notes() -> None:
    first = there(raised(lambda: 1 / 0), node="board")
    second = there(first, node="lab-7")
    assert remote_path(second) == ("board", "lab-7")
    assert "1 / 0" in remote_traceback(second)
    assert len(second.__notes__) == 1


def test_what_was_raised_there_and_collected_here_is_told_whole() -> None:
    members = [there(raised(lambda: 1 / 0)), there(raised(lambda: {}["key"]))]
    copy = there(ExceptionGroup("both", members), node="desk")
    assert "ZeroDivisionError" in remote_traceback(copy)
    assert "KeyError: 'key'" in remote_traceback(copy)
    assert "--- remote" not in remote_traceback(copy)
    assert '{}["key"]' in remote_traceback(copy.exceptions[1])
    assert remote_path(copy.exceptions[1]) == ("lab-7", "desk")


def test_an_exception_of_nowhere_has_an_empty_way() -> None:
    assert remote_path(there(ValueError(), node="")) == ()


def test_cause_context_and_suppression_survive() -> None:
    def cause() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    def context() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second")  # noqa: B904

    def neither() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None

    copy = there(raised(cause))
    assert (type(copy.__cause__), copy.__cause__.args, copy.__suppress_context__) == (KeyError, ("first",), True)
    assert copy.__context__ is copy.__cause__
    copy = there(raised(context))
    assert (type(copy.__context__), copy.__cause__, copy.__suppress_context__) == (KeyError, None, False)
    copy = there(raised(neither))
    assert (type(copy.__context__), copy.__cause__, copy.__suppress_context__) == (KeyError, None, True)


def test_groups_survive_with_their_members() -> None:
    inner = ExceptionGroup("inner", [OSError(2, "no", "file"), LabError(1)])
    copy = there(ExceptionGroup("outer", [KeyError("k"), inner]))
    assert type(copy) is ExceptionGroup
    assert copy.message == "outer"
    assert [type(error) for error in copy.exceptions] == [KeyError, ExceptionGroup]
    assert copy.exceptions[1].exceptions[0].filename == "file"
    assert copy.split(LabError)[0] is not None


def test_a_group_with_a_name_of_its_own_keeps_it() -> None:
    assert type(there(LabGroup("outer", [KeyError("k")]))) is LabGroup


def test_chains_are_bounded_and_cycles_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    copy, length = there(first), 0
    while copy is not None:
        copy, length = copy.__cause__, length + 1
    assert length == DEPTH + 1


def test_generations_are_bounded() -> None:
    group: Exception = KeyError("deep")
    for _ in range(DEPTH + 3):
        group = ExceptionGroup("level", [group])
    copy = there(group)
    for _ in range(DEPTH + 1):
        (copy,) = copy.exceptions
    assert type(copy) is RemoteError  # its members were not sent; a group cannot be empty


# -- types --------------------------------------------------------------------------------------------------------------


def test_a_class_that_is_not_known_here_is_made_once_under_its_nearest_ancestor() -> None:
    mro = ("far.away:Broken", "far.away:Base", f"{__name__}:LabError", "builtins:Exception", "builtins:BaseException")
    first, second = read(shape(*mro, args=(3,))), read(shape(*mro))
    assert type(first) is type(second)
    assert isinstance(first, LabError)
    assert first.args == (3,)
    assert (type(first).__module__, type(first).__qualname__) == ("far.away", "Broken")


def test_a_class_of_main_is_never_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    sys.modules["__main__"].Broken = LabError  # type: ignore[attr-defined]
    copy = read(shape("__main__:Broken", "builtins:Exception", "builtins:BaseException"))
    assert not isinstance(copy, LabError)
    assert type(copy).__name__ == "Broken"


def test_errors_of_the_house_are_themselves() -> None:
    error = LinkLost("the line to lab-7 died", hop="relay")
    copy = there(error)
    assert type(copy) is LinkLost
    assert (copy.args, copy.hop) == (error.args, "relay")
    assert isinstance(there(Denied("no")), PermissionError)
    assert read(shape("rpyc_gateway.errors:LinkLost", "builtins:Exception")).hop == ""
    assert type(read(shape("rpyc_gateway.errors:ConfigError", "builtins:Exception", args=(1, 2)))) is RemoteError


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), raised(lambda: trio.run(cancelled))],
    ids=lambda error: type(error).__name__,
)
def test_what_would_end_a_process_or_a_task_arrives_as_an_ordinary_error(error: BaseException) -> None:
    copy = there(error)
    assert type(copy) is RemoteError
    assert type(error).__name__ in str(copy)


def test_members_of_a_group_are_ordinary_errors_too() -> None:
    copy = there(BaseExceptionGroup("outer", [SystemExit(1), KeyError("k")]))
    assert type(copy) is ExceptionGroup
    assert [type(error) for error in copy.exceptions] == [RemoteError, KeyError]


@pytest.mark.parametrize("name", ["builtins:SystemExit", "builtins:KeyboardInterrupt", "trio:Cancelled"])
@pytest.mark.parametrize("pretence", ["builtins:Exception", "builtins:BaseExceptionGroup", "builtins:SystemExit"])
def test_a_peer_that_lies_about_ancestors_gets_an_ordinary_error_all_the_same(name: str, pretence: str) -> None:
    assert isinstance(read(shape(name, pretence, "builtins:BaseException")), Exception)
    assert isinstance(read(shape("far:Away", name, pretence)), Exception)


# -- no code of this process runs on a peer's words ---------------------------------------------------------------------


class Careful(Exception):
    """Knows when any of its code runs."""

    ran: list[str] = []  # noqa: RUF012

    def __new__(cls, *_args: object) -> Careful:  # noqa: PYI034
        cls.ran.append("new")
        return super().__new__(cls)

    def __init__(self, *_args: object) -> None:
        self.ran.append("init")

    def __init_subclass__(cls) -> None:
        cls.ran.append("init_subclass")

    def __setattr__(self, name: str, value: object) -> None:
        self.ran.append(f"setattr {name}")

    def add_note(self, note: str) -> None:
        self.ran.append("add_note")

    @property
    def level(self) -> int:
        return 1

    @level.setter
    def level(self, value: int) -> None:
        self.ran.append(f"level {value}")


@pytest.mark.parametrize("mro", [(f"{__name__}:Careful",), ("far:Away", f"{__name__}:Careful")])
def test_a_known_class_is_rebuilt_without_its_own_code(mro: tuple[str, ...]) -> None:
    Careful.ran.clear()
    attributes = (["level", 9], ["colour", "red"])
    copy = read(shape(*mro, "builtins:Exception", args=(1,), attributes=attributes, notes=["note"], trace="trace"))
    assert copy.args == (1,)
    assert vars(copy)["colour"] == "red"
    assert "note" in copy.__notes__
    assert Careful.ran == []


def test_attributes_do_not_reach_the_machinery_of_an_exception() -> None:
    attributes = [
        [name, 5] for name in ("args", "with_traceback", "__class__", "__dict__", "__cause__", "__all__", "errno", "ok")
    ]
    copy = read(shape("builtins:OSError", "builtins:Exception", attributes=tuple(attributes)))
    assert type(copy) is OSError
    assert (copy.args, copy.errno, copy.ok, copy.__cause__) == ((), 5, 5, None)
    assert callable(copy.with_traceback)
    assert not hasattr(copy, "__all__")


class Trap:
    """Asks to be told of whoever wants to know anything of it."""

    asked: list[str] = []  # noqa: RUF012

    def __getattribute__(self, name: str) -> object:
        Trap.asked.append(name)
        return object.__getattribute__(self, name)

    def __hash__(self) -> int:
        Trap.asked.append("hash")
        return 1

    def __index__(self) -> int:
        Trap.asked.append("index")
        return 1

    def __str__(self) -> str:
        Trap.asked.append("str")
        return ""


@pytest.mark.parametrize("name", ["OSError", "BlockingIOError", "UnicodeDecodeError", "SyntaxError", "ExceptionGroup"])
def test_no_constructor_asks_a_reference_for_anything(name: str) -> None:
    """A reference is a proxy of the peer's object: each question would be a call, from wherever this exception is read."""
    Trap.asked.clear()
    ref = msgspec.msgpack.Ext(8, b"\0")
    for count in range(1, 6):
        attributes = (["characters_written", ref], ["filename", ref])
        copy = read(
            shape(f"builtins:{name}", "builtins:Exception", args=(ref,) * count, attributes=attributes), (Trap(),)
        )
        assert isinstance(copy, Exception)
        assert name == "ExceptionGroup" or [type(arg) for arg in copy.args] == [Trap] * count
    assert Trap.asked == []


# -- what refuses to be told --------------------------------------------------------------------------------------------


class Unprintable(Exception):
    """Raises whatever it is asked."""

    def __str__(self) -> str:
        raise SystemExit("from __str__")

    __repr__ = __str__

    def __getattr__(self, name: str) -> object:
        return self


class Silent:
    """An object whose repr fails."""

    def __repr__(self) -> str:
        raise KeyboardInterrupt


def test_an_exception_that_cannot_be_printed_arrives_all_the_same() -> None:
    copy = there(Unprintable("args"))
    assert type(copy) is Unprintable
    assert copy.args == ("args",)
    assert "whose str() raises SystemExit" in write_exception(Unprintable(), Writer(lambda thing: thing), "")[9]


def test_what_cannot_be_sent_is_replaced_by_its_repr() -> None:
    deep: object = 1
    for _ in range(100):
        deep = (deep,)
    assert there(ValueError(deep)).args == (repr(deep),)

    def refuse(value: object) -> object:
        raise RuntimeError("this cannot go")

    writer = Writer(refuse)
    structure = write_exception(ValueError([1, 2], Silent()), writer, "")
    assert structure[1] == ["[1, 2]", "<Silent, whose repr() raises KeyboardInterrupt>"]


def test_odd_notes_names_and_modules_do_no_harm() -> None:
    kind = type("Odd", (Exception,), {"__module__": None, "__qualname__": "\ud800"})
    error = kind()
    error.__notes__ = 5
    vars(error)["\ud800"] = 1
    copy = there(error)
    assert type(copy).__name__ == "\\ud800"
    error.__notes__ = [5, "\ud800", *["more"] * 1000]
    assert there(error).__notes__[:2] == ["5", "\\ud800"]
    assert len(there(error).__notes__) == NOTES  # and no traceback: it was not raised


def test_a_traceback_without_end_is_cut() -> None:
    def recurse(level: int) -> None:
        if level:
            (lambda: recurse(level - 1))()
        raise ValueError("x" * 100_000)

    assert len(remote_traceback(there(raised(lambda: recurse(50))))) <= 20_000


# -- hostile structures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "structure",
    [
        None,
        [],
        "an exception, really",
        shape("builtins:ValueError")[:10],
        shape("builtins:Exception", children=5),
        shape("builtins:Exception", notes=5),
        shape("builtins:Exception", path=5),
        shape("builtins:Exception", attributes=(5,)),
        shape("builtins:Exception", cause="because"),
        shape("builtins:Exception", args=({"a": 1},)),
        shape("no name", "builtins:Exception"),
        shape(*["far:Away"] * 101, "builtins:Exception"),
        shape("far:" + "x" * 501, "builtins:Exception"),
        shape("far:nul\0nul", "builtins:Exception"),
    ],
    ids=lambda structure: str(structure)[:40],
)
def test_a_structure_that_is_no_exception_is_a_protocol_error(structure: object) -> None:
    with pytest.raises(ProtocolError):
        read(structure)


def test_causes_without_end_are_a_protocol_error() -> None:
    structure = shape("builtins:Exception")
    for _ in range(DEPTH + 1):
        structure = shape("builtins:Exception", cause=structure)
    with pytest.raises(ProtocolError):
        read(structure)


@pytest.mark.parametrize("children", [None, []])
def test_a_group_without_members_gets_one_that_says_so(children: object) -> None:
    copy = read(shape("builtins:ExceptionGroup", "builtins:Exception", args=("m",), children=children))
    assert [type(error) for error in copy.exceptions] == [RemoteError]


numbers = st.integers(-(2**63), 2**64 - 1)


@pytest.mark.parametrize("name", ["UnicodeDecodeError", "SyntaxError", "OSError", "ImportError", "StopIteration"])
@given(args=st.lists(st.none() | numbers | st.text(max_size=3) | st.tuples(numbers), max_size=7))
def test_arguments_that_do_not_fit_make_an_exception_anyhow(name: str, args: list[object]) -> None:
    copy = read(shape(f"builtins:{name}", "builtins:Exception", args=tuple(args)))
    assert type(copy).__name__ == name or isinstance(copy, OSError)  # which makes one of its subclasses by the number
    assert str(copy) is not None


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.binary(max_size=3)
structures = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=10)
classes = ["builtins:ValueError", "builtins:OSError", "far:Away", "builtins:ExceptionGroup", "trio:Cancelled", "json:"]


@given(
    mro=st.lists(st.sampled_from(classes), min_size=1, max_size=3),
    spoiled=st.dictionaries(st.integers(0, 10), structures, max_size=3),
)
def test_anything_is_an_ordinary_exception_or_a_protocol_error(mro: list[str], spoiled: dict[int, object]) -> None:
    structure = shape(*mro, "builtins:Exception")
    for place, value in spoiled.items():
        structure[place] = value
    try:
        error = read(structure)
    except ProtocolError:
        return
    assert isinstance(error, Exception)
    there(error)
