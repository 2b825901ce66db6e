"""A program made smaller is the same program."""

from __future__ import annotations

from typing import Any

from rpyc_gateway.device.minify import minify

PROGRAM = '''
"""What it does."""
import sys as system
from os import path

counter = 0   # a comment
limit = 10


class Thing:
    def __init__(self, name, size):
        self.name = name; self.size = size

    def grow(self, by=1):
        """Grows."""
        global counter
        counter += by
        while by:
            by -= 1
            if self.size < limit:
                self.size += 1
            elif self.size == limit: continue
            else:
                break
        return self.size


def result(values):
    thing = Thing("#no comment", 3)
    found = [thing.grow(value) for value in values if value not in (4, 5)]
    try:
        [][1]
    except IndexError as error:
        found.append(str(error))
    pick = lambda first, second: first if first > second else second
    return found, pick(1, 2), counter, "a  b", path.join("x", "y"), system.maxsize > 1


answer = result([1, 2, 3, 4, 20])
'''


def run(source: str) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return names["answer"]


def test_it_does_the_same_in_half_the_bytes() -> None:
    small = minify(PROGRAM, keep={"answer"})
    assert run(small) == run(PROGRAM)
    assert len(small) < len(PROGRAM) / 1.7
    assert "Grows" not in small
    assert "comment\n" not in small
    assert "counter" not in small


def test_names_that_others_use_stay() -> None:
    small = minify("import sys\ndef main(argument):\n    return sys.argv, argument, print, undefined\n", keep={"main"})
    assert small == "import sys\ndef main(a):return sys.argv,a,print,undefined\n"


def test_a_local_name_hides_nothing_that_the_function_needs() -> None:
    source = "a = 5\ndef f(value):\n    other = value\n    return a + other\nanswer = f(1)\n"
    assert run(minify(source, keep={"answer", "a"})) == 6
