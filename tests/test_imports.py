"""Import statements that find the modules of the far side: at run time, and to a type checker."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rpyc_gateway as gw

LAB = f"stdio:{sys.executable} -m rpyc_gateway stdio --serve classic"
FAR = """
import sys, types
for name, facts in {
    "far_lamp": {"level": 7, "On": type("On", (), {})},
    "far_parts": {"__path__": []},
    "far_parts.inner": {"depth": 2},
}.items():
    module = types.ModuleType(name)
    module.__dict__.update(facts)
    sys.modules[name] = module
sys.modules["far_parts"].inner = sys.modules["far_parts.inner"]
sys.modules["far_parts.hidden"] = types.ModuleType("far_parts.hidden")  # imported by name, and no attribute
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Any]:
    """A process with modules that this one has not."""
    with gw.connect(LAB) as conn:
        conn.execute(FAR)
        yield conn


def test_a_module_of_the_far_side_is_imported_as_one_of_ones_own(lab: Any) -> None:
    with gw.imports(lab):
        import far_lamp
        import far_parts.inner
        import far_parts.inner as within
        from far_lamp import On, level
        from far_parts import hidden, inner
    assert far_lamp.level == level == 7
    assert On is far_lamp.On
    assert far_parts.inner.depth == within.depth == inner.depth == 2
    assert hidden.__name__ == "far_parts.hidden"
    assert "far_lamp" not in sys.modules


def test_a_module_that_both_sides_have_is_that_of_the_far_side(lab: Any) -> None:
    with gw.imports(lab):
        import os as there
    import os as here

    assert there.getpid() != here.getpid()


def test_nobody_else_s_imports_are_touched(lab: Any) -> None:
    def imported() -> int:
        import os as found

        return found.getpid()

    found: list[int] = []
    with gw.imports(lab):
        import os as there

        found.append(imported())
        thread = threading.Thread(target=lambda: found.append(imported()))
        thread.start()
        thread.join()
    assert found == [os.getpid()] * 2
    assert there.getpid() != os.getpid()


def test_the_inner_of_two_blocks_is_the_one_that_counts(lab: Any) -> None:
    with gw.connect(f"{LAB} --name other") as other, gw.imports(lab):
        with gw.imports(other):
            import os as second
        import os as first

        assert first.getpid() == lab.modules.os.getpid() != second.getpid()


def test_after_the_last_block_the_import_of_python_is_its_own_again(lab: Any) -> None:
    before = builtins.__import__
    with pytest.raises(ImportError), gw.imports(lab):
        import far_nowhere  # noqa: F401
    assert builtins.__import__ is before


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("import far_nowhere", "No module named 'far_nowhere'"),
        ("import far_lamp.nowhere", "No module named 'far_lamp.nowhere'"),
        ("from far_lamp import nowhere", "cannot import name 'nowhere' from 'far_lamp' of the far side"),
        ("from far_lamp import *", r"from far_lamp import \*: the names of a far module are imported one by one"),
    ],
)
def test_what_is_not_there_is_an_import_error(lab: Any, statement: str, told: str) -> None:
    with pytest.raises(ImportError, match=told):
        exec(f"with gw.imports(lab):\n    {statement}", {"gw": gw, "lab": lab})


def test_a_call_of_import_is_no_statement(lab: Any) -> None:
    with gw.imports(lab):
        assert __import__("os").getpid() == os.getpid()


def test_relative_imports_are_this_side_s(lab: Any) -> None:
    with gw.imports(lab):
        from .naming import named
    assert named.__module__ == "tests.naming"


def test_the_trio_face_gets_what_it_awaits() -> None:
    story = f"""
import os as here
import rpyc_gateway as gw, trio
async def main():
    async with gw.open_session({LAB!r}) as lab:
        with gw.imports(lab):
            import os.path
            from os import getpid
        assert await getpid() != here.getpid()
        print(await os.path.join("a", "b"))
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("a/b\n", "")


def test_a_type_checker_takes_the_stubs_that_are_here(tmp_path: Path) -> None:
    (tmp_path / "machine.pyi").write_text(
        "class Pin:\n    def __init__(self, id: int) -> None: ...\n    def value(self) -> int: ...\n"
    )
    (tmp_path / "blink.py").write_text(
        "import rpyc_gateway as gw\n\n"
        'with gw.connect("tcp://bench:18860", node="pico") as conn, gw.imports(conn):\n'
        "    from machine import Pin\n\n"
        "    level: str = Pin(2).value()\n"
        "    Pin(2).of()\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--output=json", "--cache-dir", os.devnull, "blink.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert [(told["line"], told["code"]) for told in map(json.loads, done.stdout.splitlines())] == [
        (6, "assignment"),
        (7, "attr-defined"),
    ]
