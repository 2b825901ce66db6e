"""What a reference grants: everything in `classic`, elsewhere public names without insides, and of a Service what it exposes."""

from __future__ import annotations

import asyncio
import collections
import functools
import inspect
import json
import os
import sys
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from rpyc_gateway import service
from rpyc_gateway.classes import describe
from rpyc_gateway.errors import NotExposed
from rpyc_gateway.held import Held
from rpyc_gateway.proto.frames import Stamp
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.service import ClassicService, Modules, Service, allows, expose, listed, policy_for
from tests.naming import named

PUBLIC = policy_for(None)


def passes(target: object, verb: Verb, name: str = "") -> bool:
    try:
        PUBLIC.check(target, verb, name)
    except NotExposed:
        return False
    return True


class Lab(Service):
    """Shows what it marks, of whatever kind."""

    secret = 1

    @expose
    def read(self) -> int:
        return 1

    def reset(self) -> None: ...

    @property
    @expose
    def level(self) -> int:
        return 1

    @staticmethod
    @expose
    def version() -> int:
        return 1

    @classmethod
    @expose
    def family(cls) -> str:
        return cls.__name__


class Meta(type):
    @expose
    def meta(cls) -> int:
        return 1


class Inherited(Lab, metaclass=Meta):
    """Takes one mark back, and has a name from its metaclass, and one of its own that the class knows nothing of."""

    def __init__(self) -> None:
        self.own = expose(lambda: 1)

    def read(self) -> int:
        return 2


def test_marks_are_inherited_and_an_override_without_one_is_not_exposed() -> None:
    lab = Inherited()
    assert [name for name in ("level", "version", "family", "reset", "read", "meta", "own") if passes(lab, Verb.GET, name)] == [
        "level", "version", "family"
    ]  # fmt: skip


class Special(Service):
    """Is called and iterated over by whoever holds it, and only so."""

    @expose
    def __call__(self) -> int:
        return 1

    @expose
    def __next__(self) -> int:
        return 1

    @expose
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 1


class Quieter(Lab):
    """Takes a method back by defining it anew."""

    def read(self) -> int:
        return 2


class Answering(Service):
    """Answers to every name, and so do the things it holds."""

    class Yes:
        """Agrees with everything."""

        def __getattr__(self, name: str) -> object:
            return self

    thing = Yes()

    def __getattr__(self, name: str) -> object:
        return expose(lambda: 1)


def frames() -> Generator[types.FrameType, None, None]:
    yield sys._getframe()


async def waiting() -> None:
    """A coroutine, when called."""


class Plain:
    """An object as a caller passes it."""

    def __init__(self) -> None:
        self.value = 1

    def method(self) -> int:
        return 1


# -- public names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [Verb.GET, Verb.SET, Verb.DEL])
def test_public_names_of_an_object_are_granted_and_others_are_not(verb: Verb) -> None:
    assert passes(Plain(), verb, "value")
    for name in ("_value", "__dict__", "__class__", "__init__", "__reduce__", "__globals__", "__"):
        assert not passes(Plain(), verb, name)


def test_special_methods_calls_iteration_and_values_are_granted() -> None:
    for verb, name in ((Verb.OP, "__len__"), (Verb.CALL, ""), (Verb.TAKE, ""), (Verb.VALUE, "")):
        assert passes(Plain(), verb, name)


@pytest.mark.parametrize(
    "name", ["__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__reduce__", "__reduce_ex__"]
)
def test_special_methods_that_would_go_round_the_policy_are_not(name: str) -> None:
    assert not passes(Plain(), Verb.OP, name)


def test_a_refusal_looks_like_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="'_value' of 'Plain' objects is not exposed"):
        PUBLIC.check(Plain(), Verb.GET, "_value")


def insides() -> list[tuple[object, str]]:
    """Every public-looking name of the things that lead to code, frames and globals of this process."""
    frame = sys._getframe()
    code, trace = frame.f_code, types.TracebackType(None, frame, 0, 1)
    function = functools.wraps(len)(lambda: None)
    function.secret = 1  # type: ignore[attr-defined]
    things = [function, Plain().method, len, [].append, [].__len__, code, frame, trace, Plain, type, ValueError]
    found = [(thing, name) for thing in things for name in dir(thing) if not name.startswith("_")]
    return [*found, (function, "secret"), (Plain, "method"), ([].__len__, "anything")]


@pytest.mark.parametrize(("target", "name"), insides(), ids=named)
def test_insides_are_not_granted(target: object, name: str) -> None:
    for verb in (Verb.GET, Verb.SET, Verb.DEL):
        assert not passes(target, verb, name)


def test_the_list_of_insides_is_not_empty() -> None:
    names = {name for _, name in insides()}
    assert names >= {"co_code", "f_globals", "f_back", "tb_frame", "mro", "secret", "with_traceback"}


def test_generators_and_coroutines_do_their_work_and_show_nothing() -> None:
    generator, coroutine = frames(), waiting()
    try:
        for target in (generator, coroutine):
            for name in ("send", "throw", "close"):
                assert passes(target, Verb.GET, name)
            for name in (name for name in dir(target) if name.startswith(("gi_", "cr_"))):
                assert not passes(target, Verb.GET, name)
                assert not passes(target, Verb.SET, name)
        assert passes(generator, Verb.TAKE)
    finally:
        coroutine.close()


def test_format_strings_do_not_reach_attributes() -> None:
    class Text(str):
        __slots__ = ()

    assert not passes("{0.__class__}", Verb.GET, "format")
    for text in (Text("x"), collections.UserString("x")):
        assert not passes(text, Verb.GET, "format")
        assert not passes(text, Verb.GET, "format_map")
        assert passes(text, Verb.GET, "upper")
        assert passes(text, Verb.OP, "__format__")


def test_a_module_shows_what_it_defines_and_not_what_it_imports() -> None:
    class Lazy(types.ModuleType):
        """A module of another kind."""

    lazy = Lazy("lazy")
    lazy.sys = sys  # type: ignore[attr-defined]
    assert passes(json, Verb.GET, "dumps")
    assert not passes(json, Verb.GET, "decoder")
    assert not passes(asyncio, Verb.GET, "sys")
    assert not passes(lazy, Verb.GET, "sys")


# -- services -----------------------------------------------------------------------------------------------------------


def test_a_service_shows_what_it_exposes() -> None:
    for name in ("read", "level", "version", "family"):
        assert passes(Lab(), Verb.GET, name)
    with pytest.raises(NotExposed):
        policy_for(Lab()).check(Lab(), Verb.GET, "reset")
    with pytest.raises(NotExposed, match=r"'eval' of 'Lab' objects is not .*: it is of 'classic', where a node serves"):
        policy_for(Lab()).check(Lab(), Verb.GET, "eval")
    for name in ("reset", "secret", "on_connect", "on_disconnect", "service_name", "nothing", "_x", "__class__"):
        assert not passes(Lab(), Verb.GET, name)


def test_what_a_peer_may_read_is_listed() -> None:
    lab = Lab()
    assert all(passes(lab, Verb.GET, name) for name in listed(policy_for(lab), lab))
    assert {"read", "level", "version", "family"} <= set(listed(policy_for(lab), lab))
    assert not {"reset", "secret", "on_connect"} & set(listed(policy_for(lab), lab))
    classic = ClassicService()
    assert {"eval", "namespace", "on_connect", "__class__"} <= set(listed(policy_for(classic), classic))


@pytest.mark.parametrize("name", ["read", "secret", "new", "__class__"])
def test_a_service_is_not_changed_from_outside(name: str) -> None:
    assert not passes(Lab(), Verb.SET, name)
    assert not passes(Lab(), Verb.DEL, name)


@pytest.mark.parametrize("name", ["__repr__", "__str__", "__hash__", "__eq__", "__dir__", "__len__", "__iter__"])
def test_special_methods_of_a_service_are_for_nobody_unless_exposed(name: str) -> None:
    assert not passes(Lab(), Verb.OP, name)
    assert not passes(Special(), Verb.OP, name)
    assert passes(Special(), Verb.OP, "__getitem__")


def test_who_compares_for_equality_does_so_for_the_contrary() -> None:
    class Same(Service):
        @expose
        def __eq__(self, other: object) -> bool:
            return other == 42

        __hash__ = None  # type: ignore[assignment]

    class Other(Same):
        def __ne__(self, other: object) -> bool:
            return True

    assert passes(Same(), Verb.OP, "__ne__")
    assert not passes(Other(), Verb.OP, "__ne__")
    assert not passes(Lab(), Verb.OP, "__ne__")


def test_a_service_is_called_and_iterated_only_if_it_says_so() -> None:
    assert passes(Special(), Verb.CALL)
    assert passes(Special(), Verb.TAKE)
    assert not passes(Lab(), Verb.CALL)
    assert not passes(Lab(), Verb.TAKE)
    assert passes(Lab(), Verb.VALUE)


def test_a_method_that_is_defined_anew_is_exposed_anew_or_not_at_all() -> None:
    assert passes(Lab(), Verb.GET, "read")
    assert not passes(Quieter(), Verb.GET, "read")


def test_only_a_mark_exposes_and_not_whatever_answers_to_its_name() -> None:
    assert not passes(Answering(), Verb.GET, "thing")
    assert not passes(Answering(), Verb.GET, "anything")
    holder = Lab()
    holder.secret = expose(lambda: 1)  # type: ignore[assignment]
    assert not passes(holder, Verb.GET, "secret")


def test_expose_changes_nothing_else() -> None:
    assert Lab().read() == 1
    assert inspect.signature(Lab.read) == inspect.signature(Quieter.read)


def test_a_service_has_a_name() -> None:
    assert Lab.service_name() == "lab"
    assert type("LabService", (Service,), {}).service_name() == "lab"
    assert Service.service_name() == "service"


# -- classic ------------------------------------------------------------------------------------------------------------


def test_whoever_holds_classic_holds_the_interpreter() -> None:
    policy = policy_for(ClassicService())
    for target, name in insides():
        policy.check(target, Verb.GET, name)
    policy.check(ClassicService(), Verb.GET, "namespace")
    policy.check(Lab(), Verb.SET, "__dict__")


def test_a_service_that_is_handed_out_by_another_is_no_key_to_the_interpreter() -> None:
    assert not passes(ClassicService(), Verb.GET, "eval")


def test_classic_evaluates_and_executes_in_its_namespace() -> None:
    classic = ClassicService()
    classic.execute("def double(value):\n    return value * 2\nnumber = 21")
    assert classic.eval("double(number)") == 42
    assert classic.eval("number + other", {"other": 1}) == 22
    assert "number" not in ClassicService().namespace
    assert classic.getmodule("os.path") is os.path
    with pytest.raises(SyntaxError) as caught:
        classic.execute("1 +", "sent by somebody")
    assert caught.value.filename == "sent by somebody"


def test_modules_are_imported_when_they_are_asked_for() -> None:
    modules: Any = Modules()
    assert modules.json is json
    assert modules["os.path"] is os.path
    assert "json.decoder" in modules
    assert "no.such.module" not in modules
    with pytest.raises(ModuleNotFoundError):
        modules.no_such_module  # noqa: B018
    assert not hasattr(modules, "__wrapped__")


SLOW = """
import threading
from rpyc_gateway.service import Modules
asking, done = threading.Event(), []
def ask():
    asking.set()
    done.append(hasattr(Modules().slow_to_import, "complete"))
thread = threading.Thread(target=ask)
thread.start()
asking.wait()
complete = True
"""


def test_a_module_that_another_thread_imports_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = Modules().slow_to_import
    module.thread.join()
    assert module.done == [True]


# -- who may come -------------------------------------------------------------------------------------------------------

NEIGHBOUR = Stamp("relay", "lab-7", "uid:1000")
CHILD = Stamp("relay", "parent", "parent")


@pytest.mark.parametrize(
    ("patterns", "origin", "expected"),
    [
        ((), (NEIGHBOUR,), False),
        (("*",), (), True),
        (("*",), (NEIGHBOUR, CHILD), True),
        (("uid:1000",), (NEIGHBOUR,), True),
        (("uid:1001", "parent"), (NEIGHBOUR,), False),
        (("parent",), (CHILD,), True),
        (("uid:1000",), (), False),
        (("uid:1000", "parent"), (NEIGHBOUR, CHILD), False),
        (("",), (Stamp("relay", "lab-7", ""),), False),
    ],
)
def test_identities_are_believed_of_direct_neighbours_only(
    patterns: tuple[str, ...],
    origin: tuple[Stamp, ...],
    expected: bool,  # noqa: FBT001
) -> None:
    assert allows(patterns, origin) is expected


def test_a_stamp_counts_only_if_this_node_made_it() -> None:
    assert allows(("uid:1000",), (NEIGHBOUR,), "relay")
    assert not allows(("uid:1000",), (NEIGHBOUR,), "another")


def test_exposing_what_cannot_be_marked_says_where_to_write_it() -> None:
    with pytest.raises(TypeError, match="below @property"):
        expose(property(lambda self: 1))  # type: ignore[type-var]


@pytest.mark.parametrize("value", [7, "text", b"bytes", (1, 2), 1.5, range(9), None], ids=repr)
def test_what_travels_by_value_is_used_where_it_arrives(value: object) -> None:
    """`9 ** 10 ** 9` or `x in range(10 ** 18)` would hold up everybody for a peer that could compute it at home."""
    for verb, name in ((Verb.OP, "__eq__"), (Verb.GET, "real"), (Verb.CALL, "")):
        assert not passes(value, verb, name)
    assert passes(value, Verb.VALUE, "")


def test_a_view_does_not_hand_out_what_is_behind_it() -> None:
    table = {"a": 1}
    assert not passes(functools.partial(print, "x"), Verb.GET, "func")
    assert not passes(functools.partial(print, "x"), Verb.GET, "args")
    assert passes(functools.partial(print, "x"), Verb.CALL, "")
    assert not passes(memoryview(b"x"), Verb.GET, "obj")
    assert not passes(types.MappingProxyType(table), Verb.OP, "__eq__")
    assert not passes(types.MappingProxyType(table), Verb.OP, "__or__")
    assert passes(types.MappingProxyType(table), Verb.OP, "__getitem__")
    for view in (table.keys(), table.values(), table.items()):
        assert not passes(view, Verb.GET, "mapping")
        assert passes(view, Verb.OP, "__iter__")


class Elsewhere:
    peer_vat = b"v" * 16
    drop = staticmethod(id)


@pytest.mark.parametrize(
    ("value", "name", "passed"),
    [
        ((n for n in ()), "gi_frame", False),
        ((n for n in ()), "send", True),
        (types, "sys", False),
        (len, "__self__", False),
        (passes, "__globals__", False),
        (dict, "fromkeys", False),
        ("text", "format", False),
        ([], "append", True),
        ([], "_private", False),
    ],
    ids=named,
)
def test_an_object_held_from_another_node_is_judged_by_what_it_stands_for(
    value: object, name: str, *, passed: bool
) -> None:
    proxy = blocking_proxy(Held(Elsewhere(), 7, describe(value), None, None))  # type: ignore[arg-type]
    assert passes(proxy, Verb.GET, name) is passed


@pytest.mark.parametrize("name", ["__name__", "__qualname__", "__module__", "__doc__"])
@pytest.mark.parametrize("thing", [len, dict, pytest, property(), lambda: 0])
def test_what_a_thing_is_called_is_no_secret(thing: object, name: str) -> None:
    policy = policy_for(object())
    policy.check(thing, Verb.GET, name)
    with pytest.raises(NotExposed):
        policy.check(thing, Verb.SET, name)


# -- RPyC's prefix, and what may be set --------------------------------------------------------------------------------


class Old(Service):
    """Written for RPyC."""

    exposed_limit = 3

    def __init__(self) -> None:
        self.exposed_own = 4
        self.own_secret = 5

    def exposed_read(self) -> str:
        return "exposed"

    def read(self) -> str:
        return "of this process"

    def quiet(self) -> None: ...

    class exposed_Monitor:  # noqa: N801  # as RPyC's users write it
        """Made by peers."""

        def __init__(self) -> None:
            self.running = True

        def exposed_stop(self) -> bool:
            self.running = False
            return self.running


class Dial(Service):
    """Has a property that is set by peers, and one that is not."""

    def __init__(self) -> None:
        self.value = 1

    @property
    @expose
    def level(self) -> int:
        return self.value

    @level.setter
    @expose
    def level(self, value: int) -> None:
        if value > 10:
            raise ValueError("too loud")
        self.value = value

    @property
    @expose
    def serial(self) -> int:
        return 7

    @serial.setter
    def serial(self, value: int) -> None:
        raise AssertionError("peers must not get here")


def test_the_prefix_marks_and_peers_leave_it_out() -> None:
    old = Old()
    for name in ("read", "exposed_read", "limit", "own", "Monitor"):
        assert passes(old, Verb.GET, name), name
    assert service.read(PUBLIC, old, "read")() == "exposed"
    assert service.read(PUBLIC, old, "exposed_read")() == "exposed"
    assert (service.read(PUBLIC, old, "limit"), service.read(PUBLIC, old, "own")) == (3, 4)
    assert service.read(PUBLIC, service.read(PUBLIC, old, "Monitor")(), "stop")() is False
    for name in ("quiet", "own_secret", "exposed_nothing", "nothing", "exposed_", "_own", "on_connect"):
        assert not passes(old, Verb.GET, name), name
    for verb in (Verb.SET, Verb.DEL):
        for name in ("limit", "own", "exposed_own", "exposed_read", "read"):
            assert not passes(old, verb, name), name
    assert set(service.root_methods(old)) == {"read"}


def test_an_object_that_answers_to_every_name_is_not_asked_for_the_prefixed_one() -> None:
    assert not passes(Answering(), Verb.GET, "exposed_anything")
    with pytest.raises(AttributeError, match="nothing"):
        service.read(policy_for(ClassicService()), Plain(), "nothing")


def test_a_property_is_set_where_its_setter_is_marked() -> None:
    dial = Dial()
    assert passes(dial, Verb.SET, "level")
    for verb, name in ((Verb.SET, "serial"), (Verb.DEL, "level"), (Verb.SET, "value"), (Verb.SET, "new")):
        assert not passes(dial, verb, name), name
