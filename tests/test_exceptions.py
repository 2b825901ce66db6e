"""Exceptions of the far side, used as if they were local: raised, caught, kept, thrown in, and sent home. Both faces, near and far."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import logging
import pickle
import subprocess
import sys
import traceback
import unittest
from collections.abc import Callable, Iterator
from textwrap import dedent
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.held import held_by
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.service import Service, expose
from rpyc_gateway.serving import Offer
from tests.house import HOPS, open_house, open_lab

SETUP = """
import contextlib

class Broken(Exception):
    level = 3
    def __init__(self, channel, *, why="?"):
        super().__init__(f"channel {channel}")
        self.channel, self.why = channel, why
    def __str__(self):
        return f"<{self.channel}: {self.why}>"
    def twice(self):
        return self.channel * 2

class BadlyBroken(Broken):
    pass

def fail(kind=Broken, *args):
    raise kind(*(args or (5,)))

def call(function, *args):
    return function(*args)

def caught(function, *args):
    try:
        function(*args)
    except Exception as error:
        return error

kept = []

def keep(value):
    kept.append(value)

@contextlib.contextmanager
def guard():
    try:
        yield
    except KeyError:
        pass
    except ValueError as error:
        raise LookupError("replaced") from error

def listen():
    heard = []
    while True:
        try:
            yield heard
        except ValueError as error:
            heard.append(error)
"""


async def told(story: Callable[[Any], None], hops: int = 1, setup: str = "") -> None:
    """Tell a story in a thread to the root of a lab, and see that nothing of it is held afterwards."""
    async with open_lab(hops) as lab:
        await lab.execute(SETUP + dedent(setup))
        await trio.to_thread.run_sync(story, blocking_proxy(lab.held_root))
        await lab.execute("kept.clear()")
        await forgotten(lab)


async def forgotten(lab: Any) -> None:
    """Nothing is lent to the lab, and nothing of it is held but its root."""
    for _ in range(100):
        gc.collect()
        await lab.ping()
        if lab.statistics().exports == 0 and lab.statistics().imports <= 1:
            return
        await trio.sleep(0.01)
    raise AssertionError(lab.statistics())


def raised(function: Callable[..., object], *args: object) -> BaseException:
    try:
        function(*args)
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


# -- an exception that is a value ---------------------------------------------------------------------------------------


@HOPS
async def test_an_exception_that_is_a_value_can_be_raised_and_is_its_original_all_the_same(hops: int) -> None:
    def story(lab: Any) -> None:
        error = lab.eval("keep(Broken(7, why='heat')) or kept[0]")
        assert isinstance(error, lab.namespace["Broken"])
        assert not isinstance(error, ValueError)
        assert (str(error), error.channel, error.twice(), error.args) == ("<7: heat>", 7, 14, ("channel 7",))
        assert repr(error) == "Broken('channel 7')"
        with pytest.raises(lab.namespace["Broken"]) as info:
            raise error
        assert info.value is error
        error.channel = 8
        assert lab.eval("kept[0].channel") == 8
        lab.execute("kept[0].why = 'cold'")
        assert str(error) == "<8: cold>"
        assert lab.eval("lambda e: e is kept[0]")(error)
        assert lab.eval("kept[0]") is error
        assert error == lab.eval("kept[0]")
        assert {error: 1}[lab.eval("kept[0]")] == 1
        assert error != lab.eval("Broken(8)")
        assert lab.eval("lambda c: c is Broken")(type(error))
        assert lab.eval("lambda c: c is KeyError")(type(lab.eval("KeyError(1)")))

    await told(story, hops)


@pytest.mark.parametrize(
    ("text", "kind", "members"),
    [
        ("ValueError(1, 'two')", ValueError, {"args": (1, "two")}),
        ("StopIteration(42)", StopIteration, {"value": 42}),
        ("KeyError('k')", KeyError, {"args": ("k",)}),
        ("FileNotFoundError(2, 'not there', '/x')", FileNotFoundError, {"errno": 2, "filename": "/x"}),
        ("OSError(2, 'not there')", FileNotFoundError, {"strerror": "not there"}),
        ("UnicodeDecodeError('utf-8', b'x', 0, 1, 'bad')", UnicodeDecodeError, {"reason": "bad", "end": 1}),
        ("SyntaxError('bad', ('f.py', 3, 1, 'x ='))", SyntaxError, {"lineno": 3, "text": "x ="}),
        ("ImportError('no', name='n', path='p')", ImportError, {"name": "n", "path": "p"}),
        ("AttributeError('no', name='n', obj=1)", AttributeError, {"name": "n", "obj": 1}),
        ("NameError('no', name='n')", NameError, {"name": "n"}),
        ("StopAsyncIteration(1)", StopAsyncIteration, {"args": (1,)}),
        ("ConnectionResetError()", ConnectionResetError, {"args": ()}),
        ("SystemExit(3)", gw.RemoteError, {"code": 3}),
        ("KeyboardInterrupt()", gw.RemoteError, {"args": ()}),
        ("GeneratorExit()", gw.RemoteError, {"args": ()}),
        ("BaseException(1)", gw.RemoteError, {"args": (1,)}),
    ],
)
async def test_builtin_exceptions_are_values_of_their_own_class(
    text: str, kind: type[Exception], members: dict[str, object]
) -> None:
    def story(lab: Any) -> None:
        error = lab.eval(text)
        assert isinstance(error, Exception)
        assert isinstance(error, kind)
        assert {name: getattr(error, name) for name in members} == members
        assert str(error) == lab.eval(f"str({text})")
        assert type(raised(lab.eval("fail").__call__, lab.eval("lambda *_: " + text))) is kind

    await told(story)


async def test_c_code_sees_what_an_exception_was_when_it_came() -> None:
    def story(lab: Any) -> None:
        stop = lab.eval("StopIteration('the value')")

        class Numbers:
            def __iter__(self) -> Any:
                return self

            def __next__(self) -> Any:
                raise stop

        def delegate() -> Iterator[Any]:
            return (yield from Numbers())  # type: ignore[misc]

        with pytest.raises(StopIteration) as info:
            next(delegate())
        assert info.value.value == "the value"

    await told(story)


async def test_where_it_is_raised_here_is_its_own_and_where_it_was_raised_there_is_a_note() -> None:
    def story(lab: Any) -> None:
        error = lab.eval("caught(fail)")
        assert error.__traceback__ is None
        assert "in fail" in gw.remote_traceback(error)
        assert gw.remote_path(error) == ("lab",)
        with pytest.raises(lab.namespace["Broken"]) as info:
            raise error from KeyError("the cause")
        assert info.value is error
        text = printed(error)
        assert "KeyError: 'the cause'" in text
        assert "in story" in text
        assert "--- remote traceback (lab) ---" in text
        assert "in fail" in text
        assert text.count("<5: ?>") == 2  # here and there
        assert error.with_traceback(None) is error
        assert error.__traceback__ is None
        error.add_note("seen")
        assert error.__notes__[0] == "seen"
        assert lab.eval("lambda e: e.__notes__[0]")(error) == "seen"
        fresh = lab.eval("ValueError()")
        assert not hasattr(fresh, "__notes__")
        assert "remote" not in printed(fresh)

    await told(story)


async def test_what_led_to_it_comes_with_it() -> None:
    def story(lab: Any) -> None:
        error = lab.eval("caught(chain)")
        assert (type(error.__cause__), error.__cause__.args) == (ValueError, ("second",))
        assert (type(error.__cause__.__context__), error.__suppress_context__) == (KeyError, True)
        assert "second" in printed(error)

    await told(
        story,
        setup="""
        def chain():
            try:
                try: {}["first"]
                except KeyError: raise ValueError("second")
            except ValueError as error: raise LookupError("third") from error
        """,
    )


@HOPS
async def test_groups_are_split_and_caught_by_their_members(hops: int) -> None:
    def story(lab: Any) -> None:
        text = (
            "ExceptionGroup('outer', [ValueError(1), ExceptionGroup('inner', [Broken(2), OSError(3)]), BadlyBroken(4)])"
        )
        broken = lab.namespace["Broken"]
        for group in (lab.eval(text), raised(lab.eval("fail"), lab.eval("lambda *_: " + text))):
            assert isinstance(group, ExceptionGroup)
            seen: list[object] = []
            try:
                raise group
            except* ValueError as some:
                seen.append([str(error) for error in some.exceptions])
            except* broken as some:
                seen.append([type(error).__name__ for error in some.exceptions])
            except* OSError as some:
                seen.append(str(some.exceptions[0].exceptions[0]))
            assert seen == [["1"], ["ExceptionGroup", "BadlyBroken"], "3"]
        mixed = raised(lab.eval("fail"), lab.eval("lambda *_: BaseExceptionGroup('m', [SystemExit(1), ValueError(2)])"))
        assert type(mixed) is ExceptionGroup
        assert [type(error) for error in mixed.exceptions] == [gw.RemoteError, ValueError]

    await told(story, hops)


async def test_when_its_session_is_over_it_says_what_it_said() -> None:
    async with open_lab() as lab:
        await lab.execute(SETUP)
        root = blocking_proxy(lab.held_root)
        error = await trio.to_thread.run_sync(lambda: root.eval("caught(fail)"))
        assert str(error) == "<5: ?>"  # in this thread, which cannot ask
        lab.close()

        def story() -> None:
            assert str(error) == "<5: ?>"
            assert repr(error) == "Broken('channel 5')"
            assert (error.args, error.channel) == (("channel 5",), 5)
            assert "in fail" in printed(error)
            with pytest.raises(gw.SessionClosed):
                error.twice()
            with pytest.raises(Exception, match="<5") as info:
                raise error
            assert info.value is error

        await trio.to_thread.run_sync(story)


async def test_logging_and_unittest_take_it_for_an_exception() -> None:
    def story(lab: Any) -> None:
        error = lab.eval("caught(fail)")
        lines = io.StringIO()
        logger = logging.Logger("test")  # noqa: LOG001  # pytest keeps what goes to one that is known
        logger.addHandler(logging.StreamHandler(lines))
        logger.error("it broke", exc_info=error)
        assert "in fail" in lines.getvalue()
        case = unittest.TestCase()
        with case.assertRaises(lab.namespace["Broken"]) as context:  # noqa: PT027  # the point
            lab.eval("fail()")
        assert context.exception.channel == 5
        with pytest.raises(lab.namespace["Broken"]) as info:
            lab.eval("fail()")
        shown = str(info.getrepr(style="long"))
        assert "in fail" in shown
        assert "--- remote traceback (lab)" in shown
        with contextlib.suppress(lab.namespace["Broken"]):
            lab.eval("fail(BadlyBroken)")

    await told(story)


# -- in trio code -------------------------------------------------------------------------------------------------------


@HOPS
async def test_in_trio_code_it_is_an_ordinary_exception_that_knows_its_way_home(hops: int) -> None:
    async with open_lab(hops) as lab:
        await lab.execute(SETUP)
        error = await lab.eval("keep(Broken(7, why='heat')) or kept[0]")
        broken = await lab.namespace["Broken"]
        assert type(error) is broken
        assert (str(error), error.args, error.channel) == ("<7: heat>", ("channel 7",), 7)
        with pytest.raises(broken):
            raise error
        assert await (await lab.eval("lambda e: e is kept[0]"))(error)
        assert type(await lab.eval("ValueError(1)")) is ValueError
        told: list[Exception] = []

        async def on_error(error: Exception) -> None:
            told.append(error)

        await lab.namespace["call"](on_error, await lab.eval("caught(fail)"))
        assert (str(told[0]), "in fail" in gw.remote_traceback(told[0])) == ("<5: ?>", True)
        await lab.execute("kept.clear()")
        del error, broken
        told.clear()
        await forgotten(lab)


@HOPS
async def test_what_a_task_raises_in_a_callback_comes_home_as_itself(hops: int) -> None:
    async with open_lab(hops) as lab:
        await lab.execute(SETUP)
        mine = ZeroDivisionError("mine")

        async def fail() -> None:
            raise mine

        with pytest.raises(ZeroDivisionError) as info:
            await lab.namespace["call"](fail)
        assert info.value is mine
        assert gw.remote_path(mine)[0] == "hq"
        assert "lab" in gw.remote_path(mine)
        del info
        mine.__traceback__ = None
        await forgotten(lab)


@HOPS
async def test_context_managers_are_made_of_generators_of_the_other_side(hops: int) -> None:
    """contextlib throws a type, a value and a traceback, which is one of its own process."""

    def here() -> Iterator[int]:
        try:
            yield 1
        except ValueError as error:
            heard.append(error.args)

    heard: list[object] = []

    def story(lab: Any) -> None:
        assert lab.eval("use")(here) == "suppressed"
        assert heard == [("for the generator here",)]
        with contextlib.contextmanager(lab.eval("there"))():
            raise ValueError("for the generator there")
        mine = KeyError("for nobody")
        with pytest.raises(KeyError) as info, contextlib.contextmanager(lab.eval("there"))():
            raise mine
        assert info.value is mine
        mine.__traceback__ = None  # it holds the frames of this story

    setup = """
        def use(generator):
            with contextlib.contextmanager(generator)():
                raise ValueError("for the generator here")
            return "suppressed"

        def there():
            try:
                yield
            except ValueError:
                pass
    """
    await told(story, hops, setup)


# -- coming home --------------------------------------------------------------------------------------------------------


@HOPS
async def test_what_is_thrown_into_a_generator_comes_out_as_itself(hops: int) -> None:
    def story(lab: Any) -> None:
        walk = lab.eval("listen()")
        next(walk)
        mine = ValueError("thrown", [1])
        heard = walk.throw(mine)
        assert heard[0] is mine
        stranger = KeyError("not for it")
        with pytest.raises(KeyError) as info:
            walk.throw(stranger)
        assert info.value is stranger
        assert "in listen" in gw.remote_traceback(stranger)
        stranger.__traceback__ = None  # it holds this frame, and that the generator, whose frames may hold it
        assert gw.remote_path(stranger)[0] == "hq"

    await told(story, hops)


@HOPS
async def test_a_context_manager_there_suppresses_replaces_or_lets_pass(hops: int) -> None:
    def story(lab: Any) -> None:
        guard = lab.namespace["guard"]
        with guard():
            raise KeyError("suppressed")
        mine = OSError("mine")
        with pytest.raises(OSError, match="mine") as info, guard():
            raise mine
        assert info.value is mine
        assert not hasattr(mine, "__notes__")
        assert gw.remote_traceback(mine) == ""
        value = ValueError("value")
        with pytest.raises(LookupError, match="replaced") as other, guard():
            raise value
        assert other.value.__cause__ is value
        with pytest.raises(KeyboardInterrupt), guard():
            raise KeyboardInterrupt

    await told(story, hops)


@HOPS
async def test_what_a_callback_raises_passes_through_the_far_side_and_is_itself_again(hops: int) -> None:
    def story(lab: Any) -> None:
        class Mine(Exception):
            def __init__(self, thing: object) -> None:
                super().__init__("mine")
                self.thing = thing

        mine = Mine(object())

        def fail() -> None:
            raise mine from KeyError("why")

        with pytest.raises(Mine) as info:
            lab.eval("call")(fail)
        assert info.value is mine
        assert "in fail" in printed(mine)
        assert "in call" in gw.remote_traceback(mine)
        with pytest.raises(RuntimeError, match="wrapped") as wrapped:
            lab.eval("wrap")(fail)
        assert wrapped.value.__cause__ is mine
        with pytest.raises(ExceptionGroup) as group:
            lab.eval("gather")(fail)
        assert group.value.exceptions[1] is mine
        error = lab.eval("caught")(fail)
        assert error is mine

    setup = """
    def wrap(f):
        try: f()
        except Exception as error: raise RuntimeError("wrapped") from error
    def gather(f):
        try: f()
        except Exception as error: raise ExceptionGroup("all", [ValueError(1), error])
    """
    await told(story, hops, setup)


async def test_what_led_to_an_exception_of_ours_comes_home_too() -> None:
    def story(lab: Any) -> None:
        mine = ValueError("mine")
        mine.__cause__ = cause = KeyError("the cause")
        with pytest.raises(KeyError) as info:
            lab.eval("fail_with_cause")(mine)
        assert info.value is cause
        cause.__traceback__ = None

    await told(story, setup="def fail_with_cause(e): raise e.__cause__\n")


async def test_system_exit_of_ours_does_not_come_home_as_itself() -> None:
    def story(lab: Any) -> None:
        def leave() -> None:
            raise SystemExit(3)

        with pytest.raises(gw.RemoteError, match="SystemExit"):
            lab.eval("call")(leave)
        lab.eval("keep")(SystemExit(4))
        with pytest.raises(gw.RemoteError):
            lab.execute("raise kept[0]")

    await told(story)


async def test_what_passed_a_third_node_comes_home_as_itself() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as other:
        for session in (one, other):
            await session.execute(SETUP)
        mine = ZeroDivisionError("mine")

        def story() -> None:
            first, second = blocking_proxy(one.held_root), blocking_proxy(other.held_root)

            def fail() -> None:
                raise mine

            # `lab` as first is given what hq holds of `lab` as second: each call goes there, back here, and there again.
            with pytest.raises(ZeroDivisionError) as info:
                first.eval("call")(second.eval("call"), fail)
            assert info.value is mine
            error = second.eval("caught(fail)")
            assert first.eval("lambda e: (str(e), e.channel, type(e).__name__, isinstance(e, Exception))")(error) == (
                "<5: ?>",
                5,
                "Broken",
                True,
            )
            with pytest.raises(second.eval("Broken")) as caught:
                first.eval("call")(second.eval("fail"))
            assert str(caught.value) == "<5: ?>"
            assert gw.remote_path(caught.value) == ("lab", "hq", "lab")

        await trio.to_thread.run_sync(story)
        mine.__traceback__ = None
        await forgotten(one)
        await forgotten(other)


async def test_as_long_as_the_far_side_keeps_what_it_was_raised_it_is_lent_no_longer() -> None:
    def story(lab: Any) -> None:
        mine = ZeroDivisionError("mine")

        def fail() -> None:
            raise mine

        lab.execute("def keep_raised(f):\n try: f()\n except Exception as error: kept.append(error)")
        for _ in range(10):
            lab.eval("keep_raised")(fail)
        assert lab.eval("kept[3]") is mine
        lab.execute("kept.clear()")

    await told(story)


async def test_copies_and_pickles_leave_the_way_home_out() -> None:
    async with open_lab() as lab:
        error = await lab.eval("ValueError(1)")
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), again.args) == (ValueError, (1,))
        assert copy.copy(error).args == (1,)
        assert copy.deepcopy(error).args == (1,)


# -- classes ------------------------------------------------------------------------------------------------------------


@HOPS
async def test_a_class_of_the_far_side_catches_and_makes_its_exceptions(hops: int) -> None:
    def story(lab: Any) -> None:
        assert lab.builtins.ValueError is ValueError
        assert lab.builtins.KeyboardInterrupt is KeyboardInterrupt
        assert lab.modules.json.JSONDecodeError is __import__("json").JSONDecodeError
        error = raised(lab.eval("fail"), lab.eval("BadlyBroken"))
        broken, badly = lab.namespace["Broken"], lab.namespace["BadlyBroken"]
        assert issubclass(badly, broken)
        assert isinstance(error, broken)  # although it was raised before the class was ever here
        assert type(error) is badly
        assert (broken.level, broken.__name__, lab.eval("lambda c: c is Broken")(broken)) == (3, "Broken", True)
        assert not hasattr(broken, "nothing")
        with pytest.raises(broken, match="<6: heat>") as info:
            raise broken(6, why="heat")
        assert info.value.twice() == 12
        with pytest.raises(TypeError, match="channel"):
            raise badly
        assert lab.eval("lambda e: type(e) is Broken")(info.value)

    await told(story, hops)


async def test_raised_in_a_callback_it_is_of_the_real_class_there() -> None:
    def story(lab: Any) -> None:
        broken = lab.namespace["Broken"]

        class Mine(broken):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__("mine")

        def fail(make: Callable[[], Exception]) -> None:
            raise make()

        kinds = lab.eval("lambda f, *a: (lambda e: (isinstance(e, Broken), type(e) is Broken))(caught(f, *a))")
        assert kinds(fail, lambda: broken(1)) == (True, True)
        assert kinds(fail, Mine) == (True, False)
        assert kinds(fail, lambda: lab.eval("Broken(1)")) == (True, True)
        copied = raised(lab.eval("fail"))
        assert kinds(fail, lambda: copied) == (True, True)
        assert kinds(fail, lambda: ValueError()) == (False, False)

    await told(story)


async def test_two_classes_of_one_name_are_two() -> None:
    def story(lab: Any) -> None:
        first = lab.namespace["Broken"]
        lab.execute("class Broken(Exception): pass")
        second = lab.namespace["Broken"]
        assert first is not second
        with pytest.raises(second):
            lab.execute("raise Broken")
        assert not isinstance(raised(lab.execute, "raise Broken"), first)

    await told(story)


async def test_many_ancestors_catch_what_they_catch_there() -> None:
    def story(lab: Any) -> None:
        error = raised(lab.execute, "raise D(1)")
        for name in "ABCD":
            assert isinstance(error, lab.namespace[name]), name
        assert not isinstance(error, lab.namespace["E"])
        assert isinstance(error, KeyError)
        assert not issubclass(lab.namespace["B"], lab.namespace["C"])
        assert isinstance(raised(lab.execute, "raise E"), lab.namespace["E"])
        with pytest.raises(lab.namespace["F"]):
            lab.execute("raise F")

    setup = """
    class Mixin: pass
    class A(Exception): pass
    class B(A): pass
    class C(Mixin, A): pass
    class D(B, C, KeyError): pass
    class E(A): pass
    class F(BaseException): pass
    """
    await told(story, setup=setup)


async def test_a_class_of_ours_there_is_ours_again_here() -> None:
    def story(lab: Any) -> None:
        class Mine(Exception):
            pass

        assert lab.eval("lambda c: c")(Mine) is Mine
        assert lab.eval("lambda c: issubclass(c, Exception)")(Mine)
        lab.execute("def fail_with(c): raise c('words')")
        with pytest.raises(Mine, match="words"):
            lab.eval("fail_with")(Mine)
        lab.execute("def retry(c, f):\n try: f()\n except c as error: return error.args")

        def fail() -> None:
            raise Mine(1)

        assert lab.eval("retry")(Mine, fail) == (1,)

    await told(story)


async def test_in_trio_code_a_class_catches_and_has_its_attributes_awaited() -> None:
    async with open_lab() as lab:
        await lab.execute(SETUP)
        broken = await lab.namespace["Broken"]
        with pytest.raises(broken):
            await lab.namespace["fail"]()
        with pytest.raises(AttributeError, match="level"):
            _ = broken.level
        assert await lab.namespace["Broken"].level == 3
        error = broken("local")
        assert await (await lab.eval("lambda e: isinstance(e, Broken)"))(error)
        assert error.args == ("local",)


# -- what refuses, and what has no end ----------------------------------------------------------------------------------


ODD = (
    "Odd(1)", "Cyclic()", "Long()", "Loop()", "Slotted(3)", "Deep()", "Wide()", "Closed()", "OfMeta()", "Keyed(key=1)",
    "ExceptionGroup('odd', [Odd(1), Closed(), OfMeta()])", "ValueError(object(), [], {}, open)", "OSError([])",
    "UnicodeDecodeError('utf-8', bytearray(b'x'), 0, 1, 'bad')",
)  # fmt: skip


async def test_odd_exceptions_cost_their_call_at_most() -> None:
    def story(lab: Any) -> None:
        for text in ODD:
            error = lab.eval(text)
            assert isinstance(error, Exception), text
            assert isinstance(raised(lab.eval("fail"), lab.eval(f"lambda *_: {text}")), Exception), text
        assert lab.eval("Slotted(3)").slot == 3
        assert raised(lab.execute, "raise Slotted(4)").slot == 4  # type: ignore[attr-defined]
        cyclic = lab.eval("Cyclic()")
        assert cyclic.args[0] is cyclic
        assert isinstance(raised(lab.execute, "def f(): f()\nf()"), RecursionError)
        assert lab.eval("1 + 1") == 2

    setup = """
    class Odd(Exception):
        def __str__(self): raise SystemExit("no")
        __repr__ = __str__
        def __getattr__(self, name): raise SystemExit("no")
    class Slotted(Exception):
        __slots__ = ("slot", "empty")
        def __init__(self, slot): self.slot = slot
    class Closed(Exception):
        args = property(lambda self: exit())
        __traceback__ = __cause__ = __class__ = __dict__ = args
        def __reduce__(self): raise SystemExit("no")
    class Meta(type):
        def __getattribute__(cls, name): raise SystemExit(name)
    class OfMeta(Exception, metaclass=Meta): pass
    class Keyed(Exception):
        def __new__(cls, *, key): return super().__new__(cls)
        def __init__(self, *, key): self.key = key
    def Cyclic():
        e = ValueError(); e.args = (e, [e]); e.me = e
        return e
    def Loop():
        a, b = ValueError("a"), ValueError("b")
        a.__cause__, b.__context__ = b, a
        return a
    def Long():
        e = ValueError("end")
        for n in range(10_000):
            f = ValueError(n); f.__context__ = e; e = f
        return e
    def Deep():
        e = ValueError("end")
        for n in range(500): e = ValueError(e)
        return e
    def Wide(): return ValueError("x" * 3_000_000, b"y" * 3_000_000)
    """
    await told(story, setup=setup)


class Careful(Exception):
    """Known on both sides of a test, and knows when its code runs for anything but itself."""

    ran: list[str] = []  # noqa: RUF012

    def __init_subclass__(cls) -> None:
        Careful.ran.append("init_subclass")

    def __getattr__(self, name: str) -> object:
        if type(self) is not Careful:
            Careful.ran.append(name)
        raise AttributeError(name)

    def __str__(self) -> str:
        if type(self) is not Careful:
            Careful.ran.append("str")
        return "careful"


async def test_no_code_of_a_local_class_runs_for_the_proxy_of_its_like() -> None:
    def story(lab: Any) -> None:
        Careful.ran.clear()
        look = lab.eval("lambda e, c: (str(e), repr(e), hasattr(e, 'nothing'), isinstance(e, c), e.args)")
        assert look(Careful(1), Careful) == ("careful", "Careful(1)", False, True, (1,))
        assert Careful.ran == []

    await told(story)


class Vault(Service):
    """Gives out exceptions, outside classic."""

    def __init__(self) -> None:
        self.secret = "the key"

    @expose
    def fault(self) -> Exception:
        try:
            _ = self.nothing  # type: ignore[attr-defined]
        except AttributeError as error:
            return error
        raise AssertionError

    @expose
    def call(self, function: Callable[[], object]) -> object:
        return function()

    @expose
    def fail_inside(self, function: Callable[[Any], object]) -> object:
        def inner() -> object:
            _ = self.nothing  # type: ignore[attr-defined]
            return None

        self.inner = inner
        return function(inner)


async def test_outside_classic_an_exception_shows_no_insides() -> None:
    async with open_house("hq", "lab", services={"vault": Offer(Vault, ("*",))}) as nodes:
        async with nodes[0].session("lab", service="vault") as session:

            def story() -> None:
                vault: Any = blocking_proxy(session.held_root)
                error = vault.fault()
                assert isinstance(error, AttributeError)
                assert "nothing" in str(error)
                assert error.name == "nothing"
                assert error.obj is None
                with pytest.raises(gw.NotExposed):
                    held_by(error).caller.ask(held_by(error).number, ((Verb.GET, 0, "obj"),))
                with pytest.raises(gw.NotExposed):
                    _ = error.__dict__
                assert "in fault" in printed(error)
                mine = KeyError("mine")

                def fail() -> None:
                    raise mine

                assert raised(vault.call, fail) is mine
                mine.__traceback__ = None

                def use(inner: Any) -> object:
                    theirs: Any = raised(inner)
                    ticket = vars(theirs)["__gw_home__"].held
                    for name in ("_error", "error", "obj", "args", "__class__"):
                        with pytest.raises((AttributeError, gw.NotExposed)):
                            ticket.caller.ask(ticket.number, ((Verb.GET, 0, name),))
                    raise theirs

                assert isinstance(raised(vault.fail_inside, use), AttributeError)

            await trio.to_thread.run_sync(story)


# -- between processes --------------------------------------------------------------------------------------------------


def test_between_processes_nothing_is_known_by_accident() -> None:
    """The other tests share one interpreter, and with it `sys.modules`, with the far side."""
    script = dedent(
        """
        import sys
        import rpyc_gateway as gw

        class Mine(Exception):
            pass

        with gw.connect(f"stdio:{sys.executable} -m rpyc_gateway stdio --serve classic --name lab") as conn:
            conn.execute(SETUP)
            Broken, caught, call = (conn.namespace[name] for name in ("Broken", "caught", "call"))
            mine = Mine("mine")

            def fail(error):
                raise error

            def heard(error):
                return conn.eval("lambda e: (isinstance(e, Broken), type(e).__module__, str(e))")(error)

            try:
                conn.eval("fail(BadlyBroken)")
            except Broken as error:
                copied = error
                print(type(error).__name__, error.channel, str(error), gw.remote_path(error))
            for error in (copied, Broken(4), mine, Broken.__new__(Broken)):
                print(heard(error), conn.eval("caught")(fail, error) is error)
            try:
                call(fail, mine)
            except Mine as error:
                print(error is mine)
            Error = conn.modules.sqlite3.Error
            print(Error, "sqlite3" in sys.modules)
            try:
                conn.modules.sqlite3.connect("/no/such/place")
            except Error as error:
                print(type(error).__name__)
            import sqlite3
            print(conn.modules.sqlite3.Error is sqlite3.Error)
            for kind in (Error, sqlite3.Error):
                try:
                    conn.modules.sqlite3.connect("/no/such/place")
                except kind as error:
                    print(kind is Error, isinstance(error, sqlite3.OperationalError))
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"SETUP = {SETUP!r}\n{script}"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "BadlyBroken 5 <5: ?> ('lab',)",
        "(True, '__rpyc_gateway__', '<5: ?>') True",
        "(True, '__rpyc_gateway__', '<4: ?>') True",
        "(False, '__main__', 'mine') True",
        "(True, '__rpyc_gateway__', '') True",
        "True",
        "<class 'sqlite3.Error'> False",
        "OperationalError",
        "True",
        "True True",
        "False True",
    ]
