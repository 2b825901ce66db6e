"""Methods of remote objects: what was bound is what was there."""

from __future__ import annotations

import threading

import trio

from tests.counting import Counted, counted, told
from tests.house import HOPS


@HOPS
async def test_a_method_is_read_before_whatever_is_written_later(hops: int) -> None:
    def story(lab: Counted) -> None:
        user = lab.root.eval("User('eve')")
        greet = user.greet
        with lab.trips(1):
            user.greet = "changed"  # one write: the reading, then this
        assert greet() == "hello eve"
        assert user.greet == "changed"

    await told(hops, story)


async def test_a_method_that_was_called_once_stays_what_it_was() -> None:
    def story(lab: Counted) -> None:
        user = lab.root.eval("User('eve')")
        greet = user.greet
        assert greet() == "hello eve"
        user.greet = "changed"
        assert greet() == "hello eve"

    await told(1, story)


async def test_an_attribute_that_hides_a_method_is_itself() -> None:
    def story(lab: Counted) -> None:
        hiding = lab.root.eval("[setattr(u, 'greet', 7) or u for u in [User('x')]][0]")
        assert hiding.greet + 1 == 8
        assert hiding.rename("y").name == "y"

    await told(1, story)


async def test_a_method_that_is_hidden_later_is_hidden() -> None:
    def story(lab: Counted) -> None:
        user = lab.root.eval("User('x')")
        user.greet = 7
        assert user.greet + 1 == 8
        assert user.rename("y").name == "y"

    await told(1, story)


async def test_an_object_that_computes_its_attributes_is_asked_for_each() -> None:
    def story(lab: Counted) -> None:
        shy = lab.root.eval("Shy()")
        assert shy.four == 4
        with lab.trips(2):
            assert shy.speak() == "..."

    await told(1, story)


async def test_methods_are_equal_hashable_and_shown_like_local_ones() -> None:
    def story(lab: Counted) -> None:
        user = lab.root.namespace["user"]
        assert user.greet == user.greet
        assert user.greet != user.rename
        assert len({user.greet, user.greet}) == 1
        assert "bound method User.greet" in repr(user.greet)
        assert user.greet.__name__ == "greet"
        assert user.greet.__self__ is user
        assert isinstance(user.greet, type(user.greet).__mro__[1])

    await told(1, story)


async def test_a_method_can_be_passed_on() -> None:
    def story(lab: Counted) -> None:
        user = lab.root.namespace["user"]
        assert lab.root.eval("lambda f: f('good day')")(user.greet) == "good day ada"
        assert list(map(user.greet, ["a", "b"])) == ["a ada", "b ada"]

    await told(1, story)


async def test_a_method_that_is_read_and_never_used_leaves_nothing() -> None:
    def story(lab: Counted) -> None:
        user = lab.root.namespace["user"]
        kept = user.greet
        lab.root.eval("1")  # takes the reading along
        assert kept() == "hello ada"
        unused = user.greet
        lab.root.eval("1")
        before = lab.session.rpc.statistics()
        del unused, kept
        lab.root.eval("1")
        after = lab.session.rpc.statistics()
        assert after.asked == before.asked == 0
        assert after.imports == before.imports - 2

    await told(1, story)


async def test_threads_that_call_one_method_at_once_all_get_their_answer() -> None:
    async with counted(1) as lab:

        def many() -> None:
            greet = lab.root.namespace["user"].greet
            lab.root.eval("1")
            answers: list[str] = []

            def call(word: str) -> None:
                answers.append(greet(word))

            threads = [threading.Thread(target=call, args=(str(n),)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(answers) == [f"{n} ada" for n in range(8)]

        await trio.to_thread.run_sync(many)
