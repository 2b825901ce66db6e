"""The agent as it is sent."""

from __future__ import annotations

import dis
from itertools import pairwise

import pytest

from rpyc_gateway.device.source import PART, agent, agent_names, parts


def test_it_is_composed_of_the_sections_that_are_asked_for() -> None:
    assert "traceback" in agent("others", "core")
    assert "traceback" not in agent("micropython", "core")
    with pytest.raises(KeyError):
        agent("core", "cellar")


def test_parts_are_whole_statements_and_no_longer_than_asked_unless_one_is() -> None:
    source = "a = 1\n@len\nclass B:\n  x = 1\n\nb = 2\nif a:\n  c = 3\nelse:\n  c = 4\n"
    assert parts(source, 10) == [
        "a = 1\n",
        "@len\nclass B:\n  x = 1\n\n",
        "b = 2\n",
        "if a:\n  c = 3\nelse:\n  c = 4\n",
    ]
    assert parts(source) == [source]
    assert all(len(part) <= PART for part in parts(agent("console", "micropython", "core", "callbacks")))


def test_a_mistake_in_the_source_is_found_here() -> None:
    with pytest.raises(SyntaxError):
        parts("def f(:\n")


def test_what_an_agent_defines_is_known_by_name() -> None:
    names = agent_names("console", "micropython", "core", "callbacks")
    assert "main" in names
    assert len(names) == len(set(names))
    program = list(dis.get_instructions(compile(agent("console", "micropython", "core", "callbacks"), "agent", "exec")))
    imports = {"IMPORT_NAME", "IMPORT_FROM"}
    defined = {
        step.argval
        for before, step in pairwise(program)
        if step.opname in {"STORE_NAME", "STORE_GLOBAL"} and before.opname not in imports
    }
    assert set(names) == defined
