"""Class statements with a remote base: the class is made over there, its functions stay here."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.counting import Counted, told
from tests.house import HOPS

SETUP = """
class Base:
    made = 0
    def __init__(self, size=1): self.size = size; Base.made += 1
    def area(self): return self.size * self.width()
    def width(self): return 2
    @property
    def label(self): return f"base of {self.size}"
    @classmethod
    def unit(cls): return cls(1)
def use(shape): return shape.area(), isinstance(shape, Base), type(shape).__mro__[1] is Base
"""


@HOPS
async def test_remote_code_calls_what_was_overridden_here(hops: int) -> None:
    def story(lab: Counted) -> None:
        lab.root.execute(SETUP)

        class Wide(lab.root.namespace["Base"]):  # type: ignore[misc]
            colour = "red"

            def width(self) -> int:
                return 10

        shape = Wide(3)
        assert lab.root.namespace["use"](shape) == (30, True, True)
        assert shape.colour == "red"
        assert shape.label == "base of 3"
        assert isinstance(shape, Wide)
        assert isinstance(shape, lab.root.namespace["Base"])
        assert issubclass(Wide, lab.root.namespace["Base"])
        assert type(shape).__name__.endswith("Wide")
        assert Wide.unit().area() == 10

    await told(hops, story)


async def test_super_reaches_the_remote_methods() -> None:
    def story(lab: Counted) -> None:
        lab.root.execute(SETUP)

        class Wide(lab.root.namespace["Base"]):  # type: ignore[misc]
            def __init__(self, size: int, depth: int) -> None:
                super().__init__(size)
                self.depth = depth

            def area(self) -> Any:
                return super().area() * self.depth

            @property
            def label(self) -> str:
                return f"wide {super().label}"

            @staticmethod
            def kind() -> str:
                return "wide"

            def wrong(self) -> Any:
                return super().missing

        class Wider(Wide):
            def area(self) -> Any:
                return super().area() + 1

        assert Wide(3, 4).area() == 24
        assert Wider(3, 4).area() == 25
        assert Wide(3, 4).label == "wide base of 3"
        assert Wide.kind() == "wide"
        with pytest.raises(AttributeError, match="missing"):
            Wide(1, 1).wrong()

    await told(1, story)


async def test_a_thread_of_the_far_side_may_run_a_method_of_this_one() -> None:
    def story(lab: Counted) -> None:
        here = threading.get_ident()
        ran: list[bool] = []

        class Task(lab.root.modules.threading.Thread):  # type: ignore[misc]
            def run(self) -> None:
                ran.append(threading.get_ident() != here)

        task = Task(name="task")
        task.start()
        task.join()
        assert ran == [True]
        assert task.name == "task"

    await told(1, story)


async def test_bases_of_two_places_are_refused() -> None:
    def story(lab: Counted) -> None:
        lab.root.execute(SETUP)
        with pytest.raises(TypeError, match="made where its base Base is"):

            class Mixed(lab.root.namespace["Base"], Counted):  # type: ignore[misc]
                pass

        with pytest.raises(TypeError):

            class Odd(lab.root.eval("Base()")):  # type: ignore[misc]
                pass

    await told(1, story)


async def test_a_class_that_may_not_be_inherited_from_says_so() -> None:
    def story(lab: Counted) -> None:
        with pytest.raises(TypeError, match="not an acceptable base type"):

            class Odd(lab.root.builtins.bool):  # type: ignore[misc]
                pass

    await told(1, story)
