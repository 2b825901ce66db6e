"""The transparent object of blocking code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.proxy import Proxy, blocking_proxy
from rpyc_gateway.service import Service, expose
from rpyc_gateway.serving import Offer
from tests.house import open_house, open_lab


async def told(story: Callable[[Any], None], setup: str = "") -> None:
    """Tell a story in a thread, to the root of a lab in which `setup` was executed."""
    async with open_lab() as lab:
        await lab.execute(dedent(setup))
        await trio.to_thread.run_sync(story, blocking_proxy(lab.held_root))


async def test_it_has_the_special_methods_of_its_original_and_no_others() -> None:
    def story(lab: Any) -> None:
        number = lab.namespace["Number"]()
        assert int(number) == 5
        assert not callable(number)
        with pytest.raises(TypeError, match="iterable"):
            iter(number)
        with pytest.raises(TypeError, match="len"):
            len(number)
        items = lab.eval("[]")
        assert not callable(items)
        assert not items
        assert callable(lab.eval("len"))

    await told(story, "class Number:\n def __int__(self): return 5\n")


async def test_operators_run_there_with_operands_of_both_sides() -> None:
    def story(lab: Any) -> None:
        price = lab.eval("__import__('decimal').Decimal('1.25')")
        assert str(price + 1) == "2.25"
        assert str(2 * price) == "2.50"
        assert str(-price) == "-1.25"
        assert str(price**2) == "1.5625"
        assert price < 2
        assert price == lab.eval("__import__('decimal').Decimal('1.250')")
        assert f"{price:.1f}" == "1.2"
        assert round(price) == 1
        with pytest.raises(TypeError):
            price + "text"
        items = lab.eval("[1, 2]")
        items += [3]
        assert items[-1] == 3
        assert items[0:2][1] == 2

    await told(story)


async def test_what_a_class_has_closed_is_closed() -> None:
    def story(lab: Any) -> None:
        closed = lab.namespace["Closed"]()
        assert closed[0] == 0
        with pytest.raises(TypeError, match="not iterable"):
            iter(closed)
        with pytest.raises(TypeError, match="not a container"):
            1 in closed  # noqa: B015
        with pytest.raises(TypeError, match="not reversible"):
            reversed(closed)

    await told(
        story,
        """
        class Closed:
            __iter__ = __contains__ = __reversed__ = None
            def __getitem__(self, n): return n
            def __len__(self): return 3
        """,
    )


async def test_a_far_descriptor_is_told_its_name_here() -> None:
    def story(lab: Any) -> None:
        class Mine:
            field = lab.namespace["Field"]()

        assert Mine.field == "field of Mine"

    await told(
        story,
        """
        class Field:
            def __set_name__(self, owner, name): self.name = f"{name} of {owner.__name__}"
            def __get__(self, instance, owner): return self.name
        """,
    )


async def test_a_class_may_judge_inequality_alone() -> None:
    def story(lab: Any) -> None:
        assert (lab.namespace["Odd"]() != 5) == "who knows"

    await told(story, "class Odd:\n def __ne__(self, other): return 'who knows'\n")


async def test_a_remote_function_can_be_wrapped_here() -> None:
    def story(lab: Any) -> None:
        @functools.wraps(lab.namespace["half"])
        def wrapper(number: int) -> Any:
            return lab.namespace["half"](number) + 1

        assert wrapper(4) == 3
        assert (wrapper.__name__, wrapper.__doc__) == ("half", "Divide.")
        assert wrapper.__annotations__["return"] == "int"

    await told(story, "def half(n) -> 'int':\n  'Divide.'\n  return n // 2\n")


async def test_a_context_manager_sees_the_exception_with_a_traceback() -> None:
    def story(lab: Any) -> None:
        seen = lab.namespace["seen"]
        with lab.namespace["Manager"]():
            raise KeyError("x")
        assert list(seen[0]) == [True, True, True]

    await told(
        story,
        """
        seen = []
        class Manager:
            def __enter__(self): pass
            def __exit__(self, kind, error, trace):
                seen.append((issubclass(kind, KeyError), isinstance(error, kind), trace is not None))
                return True
        """,
    )


async def test_attributes_are_read_set_and_deleted_there() -> None:
    def story(lab: Any) -> None:
        thing = lab.namespace["Thing"]()
        assert not hasattr(thing, "x")
        thing.x = 1
        assert thing.x == 1
        del thing.x
        with pytest.raises(AttributeError, match="x"):
            _ = thing.x
        assert "method" in dir(thing)
        assert thing.method(1, self_=2, name=3) == (1, 2, 3)

    await told(story, "class Thing:\n def method(self, a, *, self_, name): return a, self_, name\n")


async def test_keywords_may_have_any_name() -> None:
    def story(lab: Any) -> None:
        collect = lab.eval("lambda *a, **k: (a, tuple(sorted(k.items())))")
        assert collect(1, self=2, number=3, steps=4) == ((1,), (("number", 3), ("self", 2), ("steps", 4)))

    await told(story)


async def test_identity_hash_and_equality_follow_the_original() -> None:
    def story(lab: Any) -> None:
        plain, other = lab.eval("object()"), lab.eval("object()")
        assert plain == plain  # the point
        assert plain != other
        assert {plain: "it"}[plain] == "it"
        with pytest.raises(TypeError, match="unhashable"):
            hash(lab.eval("[]"))
        money = lab.namespace["Money"]
        assert money(1) == money(1)
        assert hash(money(1)) == hash(money(1))
        assert len({money(1), money(1), money(2)}) == 2

    await told(
        story,
        """
        class Money:
            def __init__(self, n): self.n = n
            def __eq__(self, other): return self.n == other.n
            def __hash__(self): return hash(self.n)
        """,
    )


async def test_its_class_is_that_of_its_original_where_that_is_known_here() -> None:
    def story(lab: Any) -> None:
        assert isinstance(lab.eval("[]"), list)
        assert isinstance(lab.eval("{}"), dict)
        assert not isinstance(lab.eval("[]"), dict)
        assert isinstance(lab.eval("dict"), type)
        stranger = lab.namespace["Stranger"]()
        assert (type(stranger).__name__, type(stranger).__module__) == ("Stranger", "__rpyc_gateway__")
        assert type(stranger) is type(lab.namespace["Stranger"]())
        assert issubclass(type(stranger), Proxy)

    await told(story, "class Stranger: pass")


async def test_a_builtin_container_is_walked_in_batches_and_a_generator_item_by_item() -> None:
    def story(lab: Any) -> None:
        assert list(lab.eval("list(range(1000))")) == list(range(1000))
        assert sorted(lab.eval("{3, 1, 2}")) == [1, 2, 3]
        assert dict(lab.eval("{'a': 1}").items()) == {"a": 1}
        assert list(reversed(lab.eval("list(range(1000))"))) == list(range(1000))[::-1]
        assert list(reversed(lab.eval("{'a': 1, 'b': 2}"))) == ["b", "a"]
        assert next(reversed(lab.eval("Own([1, 2])"))) == "first"
        assert lab.eval("ran") == ()
        walk = lab.eval("(n for n in range(3))")
        assert next(walk) == 0
        assert list(walk) == [1, 2]
        with pytest.raises(StopIteration):
            next(walk)

    setup = """
        ran = ()
        class Own(list):
            def __reversed__(self):
                global ran
                yield "first"
                ran += ("on",)
    """
    await told(story, setup)


async def test_trio_things_of_an_object_are_for_trio_code() -> None:
    def story(lab: Any) -> None:
        walk = lab.namespace["walk"]()
        with pytest.raises(TypeError, match="open_session"):
            type(walk).__aiter__(walk)

    await told(story, "async def walk():\n yield 1\n")


async def test_when_the_session_is_over_it_says_so_and_can_still_be_shown() -> None:
    async with open_lab() as lab:
        root = blocking_proxy(lab.held_root)
        items = await trio.to_thread.run_sync(lambda: root.eval("[1]"))
        lab.close()

        def story() -> None:
            assert "closed" in repr(items)
            with pytest.raises(gw.SessionClosed):
                items.append(1)

        await trio.to_thread.run_sync(story)


class Lamp(Service):
    """What completion sees of it is what it exposes."""

    @expose
    def switch(self, state: str) -> str:
        return state

    def secret(self) -> int:
        return 1


async def test_dir_of_a_service_lists_what_it_exposes() -> None:
    async with open_house("hq", "lab", services={"lamp": Offer(Lamp, ("*",))}) as nodes:
        async with nodes[0].session("lab", service="lamp") as session:
            lamp = blocking_proxy(session.held_root)
            assert await trio.to_thread.run_sync(dir, lamp) == ["switch"]
