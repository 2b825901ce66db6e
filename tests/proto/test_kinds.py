"""Exception classes by the names that a peer gives: what is known is itself, everything else has a stand-in that catches alike."""

from __future__ import annotations

import gc
import json
import sys
import types
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import RemoteError
from rpyc_gateway.proto import kinds as room
from rpyc_gateway.proto.kinds import TEXT, Kinds, StandIn, is_stand_in
from rpyc_gateway.proto.rebuilt import own

FAR, NEAR, THIRD = Kinds(b"f" * 16), Kinds(b"n" * 16), Kinds(b"t" * 16)


class Known(Exception):
    """Found by its name in any process that imports this module."""


def local(*bases: type, name: str = "Local") -> Any:
    return type(name, bases or (Exception,), {"__qualname__": f"somewhere.<locals>.{name}"})


# -- laws ---------------------------------------------------------------------------------------------------------------


@st.composite
def hierarchies(draw: st.DrawFn) -> list[Any]:
    classes: list[Any] = [Exception, ValueError, KeyError, LookupError, OSError, Known]
    for number in range(draw(st.integers(1, 7))):
        bases = draw(st.lists(st.sampled_from(classes), min_size=1, max_size=3, unique=True))
        try:
            classes.append(local(*bases, name=f"C{number}"))
        except TypeError:  # no such class can be
            continue
    return classes


@given(hierarchies(), st.randoms())
def test_stand_ins_catch_what_their_originals_catch(classes: list[Any], random: Any) -> None:
    order = list(classes)
    random.shuffle(order)
    near = {kind: NEAR.find_class(FAR.write(kind)) for kind in order}
    for one in classes:
        assert near[one] is NEAR.find(FAR.write(one))[0]
        for other in classes:
            assert issubclass(near[one], near[other]) == issubclass(one, other), (one, other)


@given(hierarchies())
def test_a_stand_in_is_its_original_again_at_home_and_itself_over_a_third_vat(classes: list[Any]) -> None:
    for kind in classes:
        stand_in = NEAR.find_class(FAR.write(kind))
        assert FAR.find_class(NEAR.write(stand_in)) is kind
        over_third = THIRD.find_class(NEAR.write(stand_in))
        assert NEAR.find_class(THIRD.write(over_third)) is stand_in
        assert FAR.find_class(THIRD.write(over_third)) is kind


names = st.sampled_from(["ValueError", "Away", "Exception", "SystemExit", "BaseExceptionGroup", "", "nul\0"])
entries = st.lists(
    st.tuples(st.sampled_from(["builtins", "far", "trio"]), names).map(list)
    | st.tuples(
        st.just("far"), names, st.lists(st.integers(-3, 9), max_size=3), st.binary(max_size=3), st.integers(-1, 3)
    ).map(list),
    max_size=6,
)


@given(entries)
def test_whatever_is_named_is_an_ordinary_exception_or_refused(structure: list[Any]) -> None:
    try:
        kind, name = NEAR.find(structure)
        assert issubclass(NEAR.find_class(structure), BaseException)
    except (ValueError, TypeError):
        return
    assert issubclass(kind, Exception)
    assert isinstance(name, str)
    assert issubclass(kind, ExceptionGroup) or isinstance(kind.__new__(kind), Exception)


@pytest.mark.parametrize(
    "structure",
    [
        [["far", "A", "parents"]],
        [["far", "A", [1], "vat", 1]],
        [["far", "A", [1], b"", 1.5]],
        [["far", "A", [1], b"v" * 501, 1]],
        [["far"]],
        [5],
        7,
        [["far", "A"]] * 101,
    ],
)
def test_names_that_cannot_be_read_are_refused(structure: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        NEAR.find(structure)


# -- what is known ------------------------------------------------------------------------------------------------------


def test_what_its_name_finds_is_itself_and_needs_no_number() -> None:
    assert FAR.write(json.JSONDecodeError)[0] == ["json.decoder", "JSONDecodeError"]
    for kind in (ValueError, json.JSONDecodeError, Known, KeyboardInterrupt, BaseExceptionGroup):
        assert NEAR.find_class(FAR.write(kind)) is kind
    assert len(FAR.write(local())[0]) == 5


def test_a_name_that_finds_another_class_here_is_not_enough() -> None:
    impostor = type("Known", (Exception,), {"__module__": __name__, "__qualname__": "Known"})
    assert NEAR.find_class(FAR.write(impostor)) is not Known
    assert FAR.find_class(FAR.write(impostor)) is impostor


def test_what_would_end_a_process_is_never_rebuilt() -> None:
    assert NEAR.find(FAR.write(SystemExit)) == (RemoteError, "SystemExit")
    exit_of_theirs = local(SystemExit, name="Exit")
    kind, name = NEAR.find(FAR.write(exit_of_theirs))
    assert issubclass(kind, RemoteError)
    assert not issubclass(kind, SystemExit)
    assert name == "somewhere.<locals>.Exit"
    assert kind is NEAR.find_class(FAR.write(exit_of_theirs))


# -- stand-ins ----------------------------------------------------------------------------------------------------------


class There:
    """A class of the far side that is held."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.instance: object = NotImplemented

    def get(self, name: str) -> Any:
        self.asked.append(name)
        if name != "unit":
            raise AttributeError(name)
        return "volt"

    def make(self, args: Sequence[object], kwargs: dict[str, object]) -> Any:
        self.asked.append((args, kwargs))
        return self.instance


def test_a_stand_in_asks_its_original() -> None:
    kind: Any = NEAR.find_class(FAR.write(local()))
    with pytest.raises(AttributeError, match="Local"):
        _ = kind.unit
    there = There()
    kind.bind(1, there)
    assert kind.unit == "volt"
    assert not hasattr(kind, "other")
    assert not hasattr(kind, "__wrapped__")  # the interpreter and its friends ask for these all the time
    assert there.asked == ["unit", "other"]
    there.instance = ValueError("made there")
    assert kind(1, a=2) is there.instance
    assert there.asked[-1] == ((1,), {"a": 2})
    there.instance = NotImplemented
    assert kind(1).args == (1,)


def test_a_local_subclass_makes_instances_of_its_own() -> None:
    kind: Any = NEAR.find_class(FAR.write(local()))
    there = There()
    kind.bind(1, there)

    class Mine(kind):  # type: ignore[misc]
        pass

    assert type(Mine(1)) is Mine
    assert there.asked == []
    assert Mine.unit == "volt"
    assert not is_stand_in(Mine)


def test_of_many_sessions_the_last_ones_are_known() -> None:
    kind: Any = NEAR.find_class(FAR.write(local()))
    held = [There() for _ in range(room.SESSIONS + 2)]
    for session, there in enumerate(held):
        kind.bind(session, there)
    assert kind.original(0) is None
    assert kind.original(room.SESSIONS + 1) is held[-1]
    assert kind.unit == "volt"
    assert held[-1].asked == ["unit"]


def test_it_says_what_its_original_said() -> None:
    kind: Any = NEAR.find_class(FAR.write(local(KeyError)))
    error = kind("k")
    assert str(error) == "'k'"
    own(error)[TEXT] = "said there"
    assert str(error) == "said there"

    class Mine(kind):  # type: ignore[misc]
        def __str__(self) -> str:
            return f"mine: {super().__str__()}"

    assert str(Mine("k")) == "mine: 'k'"


def test_it_lives_as_long_as_somebody_uses_it() -> None:
    structure = FAR.write(local())
    before = id(NEAR.find_class(structure))
    error = NEAR.find_class(structure)()
    gc.collect()
    assert NEAR.find_class(structure) is type(error)
    count = sum(1 for _ in room._stand_ins)
    del error
    gc.collect()
    assert sum(1 for _ in room._stand_ins) < count
    assert before


def test_a_peer_that_invents_classes_gets_their_ancestor(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(room, "STAND_INS", sum(1 for _ in room._stand_ins) + 2)
    made = [NEAR.find_class([["far", f"Invented{number}"], ["builtins", "ValueError"]]) for number in range(4)]
    assert [type(kind) for kind in made] == [StandIn, StandIn, type, type]
    assert made[3] is ValueError
    del made
    gc.collect()
    assert type(NEAR.find_class([["far", "Invented9"], ["builtins", "ValueError"]])) is StandIn


class Watched(Exception):
    """Knows when a subclass is made."""

    made: list[type] = []  # noqa: RUF012

    def __init_subclass__(cls) -> None:
        cls.made.append(cls)


class Meta(type):
    """Knows when an instance is made."""

    made: list[object] = []  # noqa: RUF012

    def __new__(mcs, *args: Any) -> Any:
        mcs.made.append(args)
        return super().__new__(mcs, *args)


class Special(KeyError, metaclass=Meta):
    """Has a metaclass of its own."""


def test_no_stand_in_is_made_by_code_of_a_local_class() -> None:
    Meta.made.clear()
    for name in ("Watched", "Special"):
        kind = NEAR.find_class([["far", "Away"], [__name__, name], ["builtins", "Exception"]])
        assert type(kind) is StandIn
    assert issubclass(kind, KeyError)
    assert Watched.made == []
    assert Meta.made == []


def test_a_class_of_main_has_a_number() -> None:
    main = sys.modules["__main__"]
    kind = type("OfMain", (Exception,), {"__module__": "__main__", "__qualname__": "OfMain"})
    assert getattr(main, "OfMain", None) is None
    assert FAR.write(kind)[0][4] > 0


def test_who_holds_a_stand_in_from_before_an_import_catches_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = [["late", "Late"], ["late", "Base"], ["builtins", "Exception"], ["builtins", "BaseException"]]
    base, late = NEAR.find_class(structure[1:]), NEAR.find_class(structure)
    module = types.ModuleType("late")
    module.Base = type("Base", (Exception,), {"__module__": "late"})  # type: ignore[attr-defined]
    module.Late = type("Late", (module.Base,), {"__module__": "late"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "late", module)
    assert NEAR.find_class(structure) is module.Late
    kind, _name = NEAR.find(structure)
    assert kind is NEAR.find(structure)[0]
    assert issubclass(kind, (module.Late))
    assert issubclass(kind, late)
    assert issubclass(kind, base)
    assert FAR.find_class(NEAR.write(kind)) is module.Late
    del kind, base, late
    gc.collect()
    assert NEAR.find(structure)[0] is module.Late
