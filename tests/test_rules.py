"""What a Service says of single attributes: read, set, deleted, called, each for itself; what can never be so is told when the class is made."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import rpyc_gateway as gw
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.service import ClassicService, policy_for, read
from rpyc_gateway.serving import Offer
from rpyc_gateway.testing import BadWire
from tests.blocking_house import House, open_blocking_lab
from tests.house import open_house


class Driver:
    """Somebody else's, without a mark."""

    def __init__(self) -> None:
        self.position = 0
        self.speed = 1
        self.note = "new"
        self.key = "s3cret"
        self.motor = Motor()
        self.on_alarm: Callable[[str], object] | None = None

    def home(self) -> int:
        self.position = 0
        return self.position

    @staticmethod
    def version() -> str:
        return "7"

    def burn(self) -> None:
        raise AssertionError("peers must not get here")


class Motor:
    """Can be called, and has more than that."""

    secret = "wires"

    def __call__(self, steps: int) -> int:
        return 2 * steps


class Stage(
    Driver,
    gw.Service,
    reads={"position", "speed", "note"},
    writes={"speed", "on_alarm", "key", "limit"},
    deletes={"note", "limit"},
    calls={"home", "version", "motor", "position_of"},
):
    """The driver, as peers see it."""

    position_of: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.exposed_limit = 3  # as RPyC's users write it

    @gw.expose
    def alarm(self, text: str) -> object:
        return self.on_alarm(text) if self.on_alarm else None

    @gw.expose
    def told(self) -> str:
        return self.key

    @gw.expose
    def __len__(self) -> int:
        return 2

    @gw.expose
    def __getitem__(self, axis: int) -> str:
        return "xy"[axis]

    @gw.expose
    def __call__(self, step: int) -> int:
        self.position += step
        return int(self.position)

    def __contains__(self, _axis: object) -> bool:
        raise AssertionError("nobody has marked this")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_blocking_lab(3, {"stage": Offer(Stage, ("*",))}) as house:
        yield house


@pytest.fixture
def root(house: House) -> Iterator[Any]:
    with house.connect(service="stage") as conn:
        yield conn.root


def refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except gw.NotExposed:
        return True
    return False


# -- from afar ----------------------------------------------------------------------------------------------------------


def test_what_is_read_is_not_set_or_deleted(root: Any) -> None:
    assert (root.position, root.speed, root.note) == (0, 1, "new")
    assert refused(lambda: setattr(root, "position", 5))
    assert refused(lambda: delattr(root, "position"))
    assert root.position == 0


def test_what_can_be_read_is_listed(root: Any, house: House) -> None:
    names = {"position", "speed", "note", "limit", "home", "version", "motor", "position_of", "alarm", "told"}
    names |= {"__len__", "__getitem__", "__call__"}
    assert set(dir(root)) == names

    async def in_trio() -> None:
        async with gw.open_session(house.url, node="lab", service="stage") as lab:
            assert set(await gw.ops.dir(lab.root)) == names

    trio.run(in_trio)
    del root.note
    assert set(dir(root)) == names - {"note"}


def test_special_methods_that_are_marked_are_those_of_the_root(root: Any) -> None:
    assert (len(root), root[1], root(5), root.position, bool(root)) == (2, "y", 5, 5, True)
    assert list(root) == ["x", "y"]  # by its items
    with pytest.raises(IndexError):
        root[2]
    with pytest.raises(TypeError, match="unsupported operand"):
        root + 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        root[1] = "z"
    assert root == root
    assert root != 5


def test_what_is_set_is_not_read_for_that(root: Any) -> None:
    root.speed = 7
    root.key = "other"
    assert (root.speed, root.told()) == (7, "other")
    assert refused(lambda: root.key)
    assert refused(lambda: delattr(root, "key"))
    root.speed += 1
    assert root.speed == 8


def test_what_is_deleted_is_gone(root: Any) -> None:
    del root.note
    with pytest.raises(AttributeError, match="note"):
        root.note  # noqa: B018
    assert refused(lambda: setattr(root, "note", "again"))


def test_what_has_rpyc_s_prefix_is_set_under_its_short_name(root: Any) -> None:
    root.limit += 1
    assert (root.limit, root.exposed_limit) == (4, 4)
    del root.limit
    assert not hasattr(root, "limit")


def test_methods_of_a_class_that_nobody_marked_are_called(root: Any) -> None:
    assert (root.home(), root.version()) == (0, "7")
    assert refused(lambda: root.burn())
    assert refused(lambda: setattr(root, "home", print))


def test_an_object_that_is_there_to_be_called_shows_nothing_else(root: Any) -> None:
    assert root.motor(4) == 8
    motor = root.motor
    for name in ("secret", "func", "args", "__dict__"):
        assert refused(functools.partial(getattr, motor, name)), name
    with pytest.raises(
        TypeError,
        match="'position_of' of 'Stage' objects is there to be called, and holds an object of type 'NoneType' now",
    ):
        root.position_of(1)


def test_a_callback_is_put_where_it_belongs(root: Any) -> None:
    told: list[str] = []
    root.on_alarm = told.append
    root.alarm("fire")
    assert told == ["fire"]
    assert refused(lambda: root.on_alarm)


async def test_the_same_in_trio_code(house: House) -> None:
    async with gw.open_session(house.url, node="lab", service="stage") as lab:
        await gw.ops.setattr(lab.root, "speed", 3)
        assert await lab.root.speed == 3
        assert await lab.root.motor(2) == 4
        assert await lab.root.home() == 0
        await gw.ops.delattr(lab.root, "note")
        for expression in (lab.root.key, lab.root.burn(), lab.root.motor.secret, gw.ops.setattr(lab.root, "home", 1)):
            with pytest.raises(gw.NotExposed):
                await expression


@pytest.mark.parametrize("seed", range(10))
async def test_a_wire_that_changes_bytes_reaches_nothing_more(seed: int, autojump_clock: MockClock) -> None:
    stage = Stage()
    fixed = {"position": 0, "motor": stage.motor, "on_alarm": None}
    async with (
        open_house("lab", services={"stage": Offer(lambda: stage, ("*",))}),
        BadWire("memory://lab", "memory://wire", seed=seed) as wire,
    ):
        wire.corrupt(0.001)
        with trio.move_on_after(60), suppress(gw.GatewayError, AttributeError, LookupError, TypeError, ValueError):
            async with gw.open_session("memory://wire", node="lab", service="stage") as lab:
                for number in range(100):
                    await gw.ops.setattr(lab.root, "speed", number)
                    await lab.root.position
                    await lab.root.home()
    assert {name: getattr(stage, name) for name in fixed} == fixed
    assert vars(stage).keys() <= {*vars(Stage())}


# -- at home ------------------------------------------------------------------------------------------------------------


def passes(target: object, verb: Verb, name: str) -> bool:
    return not refused(lambda: policy_for(None).check(target, verb, name))


NAMES = ("a", "b", "method", "private")
some = st.sets(st.sampled_from(NAMES[:2]))


@given(reads=some, writes=some, deletes=some, calls=st.sets(st.sampled_from(NAMES[:3])), inherited=some)
def test_each_right_is_for_its_names_and_no_others(
    reads: set[str], writes: set[str], deletes: set[str], calls: set[str], inherited: set[str]
) -> None:
    class Base(gw.Service, reads=inherited):
        """Has a method, and its instances have all names."""

        def method(self) -> None: ...

    class Lab(Base, reads=reads, writes=writes, deletes=deletes, calls=calls):
        """Adds to it."""

    lab = Lab()
    vars(lab).update(dict.fromkeys(("a", "b", "private"), print))
    granted = {Verb.GET: reads | inherited | calls, Verb.SET: writes, Verb.DEL: deletes, Verb.OP: set[str]()}
    for verb, names in granted.items():
        assert {name for name in (*NAMES, "absent") if passes(lab, verb, name)} == names
    for name in calls - reads - inherited:
        assert callable(read(policy_for(None), lab, name))


def test_rules_are_inherited_and_added_to() -> None:
    class Faster(Stage, writes={"position"}, reads=["motor"]):
        """Says more."""

        motor = Motor()

    fast = Faster()
    assert passes(fast, Verb.SET, "position")
    assert passes(fast, Verb.SET, "speed")
    assert not passes(Stage(), Verb.SET, "position")
    assert type(read(policy_for(None), fast, "motor")) is Motor  # who may read it may have all that it shows
    assert not passes(fast, Verb.OP, "position")
    assert not passes(fast, Verb.COPY, "position")


def test_a_data_class_has_rules_too() -> None:
    @dataclasses.dataclass(slots=True)
    class Point(gw.Service, reads={"x", "y"}, writes={"x"}):
        """Is made anew for its slots."""

        x: int = 1
        y: int = 2
        z: int = 3

    point = Point()
    assert [name for name in "xyz" if passes(point, Verb.GET, name)] == ["x", "y"]
    assert [name for name in "xyz" if passes(point, Verb.SET, name)] == ["x"]


def test_rules_join_with_the_prefix_of_rpyc() -> None:
    """What `allow_setattr` does there for all attributes is said here of each."""

    class Old(gw.Service, writes={"limit"}, deletes={"limit"}):
        """Written for RPyC."""

        def __init__(self) -> None:
            self.exposed_limit = 3
            self.exposed_fixed = 4

    policy = policy_for(None)
    assert policy.check(Old(), Verb.SET, "limit") == "exposed_limit"
    assert policy.check(Old(), Verb.SET, "exposed_limit") == "exposed_limit"
    assert policy.check(Old(), Verb.DEL, "limit") == "exposed_limit"
    for name in ("fixed", "exposed_fixed", "exposed_new"):
        assert not passes(Old(), Verb.SET, name)


def test_a_marked_setter_and_a_rule_go_together() -> None:
    class Dial(gw.Service, reads={"level"}, writes={"low"}):
        """Has properties."""

        @property
        def level(self) -> int:
            return 1

        @level.setter
        @gw.expose
        def level(self, value: int) -> None: ...

        @property
        def low(self) -> int:
            return 0

        @low.setter
        def low(self, value: int) -> None: ...

    dial = Dial()
    assert [passes(dial, verb, name) for name in ("level", "low") for verb in (Verb.GET, Verb.SET)] == [True, True, False, True]  # fmt: skip


def test_a_method_that_an_instance_hides_is_called_and_shows_nothing() -> None:
    stage = Stage()
    stage.home = Motor()  # type: ignore[assignment,method-assign]
    shown = read(policy_for(None), stage, "home")
    assert shown(2) == 4
    assert type(shown) is functools.partial  # whose insides are not shown


def test_whoever_is_served_classic_sees_what_is_there() -> None:
    stage = Stage()
    assert read(policy_for(ClassicService()), stage, "motor") is stage.motor


class Elsewhere:
    """Takes keywords of its own in class statements."""

    def __init_subclass__(cls, *, colour: str = "", **others: Any) -> None:
        super().__init_subclass__(**others)
        cls.colour = colour


def test_keywords_of_other_classes_reach_them() -> None:
    class Red(gw.Service, Elsewhere, colour="red", reads={"x"}):
        """Both."""

    assert (Red.colour, Red().__gw_rules__.reads) == ("red", {"x"})


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"reads": "level"}, r"reads is a set of names, such as reads=\{'level'\}, not 'level'"),
        ({"writes": 3}, "writes is a set of names"),
        ({"calls": [print]}, "calls is a set of names"),
        ({"reads": {"no name"}}, "'no name' is no name of an attribute"),
        ({"reads": {"class"}}, "'class' is no name of an attribute"),
        ({"reads": {"_hidden"}}, "'_hidden' is private, and no peer asks for it: write a property"),
        ({"calls": {"__len__"}}, "'__len__' is a special method: define it in the class, marked with @gw.expose"),
        ({"writes": {"exposed_limit"}}, "'exposed_limit' is said without the prefix, as peers say it: 'limit'"),
        ({"calls": {"on_connect"}}, "'on_connect' is for the node that serves it"),
        ({"reads": {"method"}}, "'method' is a method: mark it with @gw.expose, or name it in `calls`"),
        ({"writes": {"method"}}, "'method' is a method"),
        ({"deletes": {"method"}}, "'method' is a method"),
        ({"writes": {"serial"}}, "'serial' is a property without a setter"),
        ({"deletes": {"serial"}}, "'serial' is a property without a deleter"),
        ({"reads": {"password"}}, "'password' is a property without a getter"),
        ({"calls": {"limit"}}, "'limit' holds an object of type 'int', which cannot be called: `reads` is for data"),
        ({"read": {"limit"}}, "Wrong: read: the rules are reads, writes, deletes and calls"),
    ],
    ids=str,
)  # fmt: skip
def test_what_can_never_be_is_told_when_the_class_is_made(rules: dict[str, Any], told: str) -> None:
    class Base(gw.Service):
        """Has one of each kind."""

        limit = 3
        password = property(None, lambda self, value: None)

        def method(self) -> None: ...

        @property
        def serial(self) -> int:
            return 7

    with pytest.raises(TypeError, match=told) as caught:
        type("Wrong", (Base,), {}, **rules)
    assert str(caught.value).startswith("Wrong: ")


def test_a_descendant_cannot_make_a_method_of_data_that_is_read() -> None:
    with pytest.raises(TypeError, match="'speed' is a method"):

        class Worse(Stage):
            """Would show a method under the rule for data."""

            def speed(self) -> None: ...


def test_the_page_on_services_shows_classes_that_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs/services.md").read_text()
    served: list[Any] = []
    monkeypatch.setattr(gw, "serve", lambda service, url: served.append(service))
    shown: dict[str, Any] = {"gw": gw, "Driver": Driver, "Motor": Motor}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, shown)
    (lab,) = served
    assert [name for name in ("read", "level", "log", "value", "on_connect") if passes(lab(), Verb.GET, name)] == [
        "read",
        "level",
        "log",
    ]
    stage = shown["Stage"]()
    assert [passes(stage, Verb.SET, name) for name in ("speed", "on_alarm", "position")] == [True, True, False]
    assert read(policy_for(None), stage, "motor")(2) == 4
