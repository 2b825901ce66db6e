"""The operators by name."""

from __future__ import annotations

import operator

import pytest

from rpyc_gateway.classes import SPECIAL
from rpyc_gateway.operations import HINTS, OPERATORS


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_each_is_what_python_calls_so(name: str) -> None:
    function, special = OPERATORS[name]
    if name not in ("divmod", "pow"):
        assert function is getattr(operator, name)
    assert special in SPECIAL


def test_hints_are_for_special_methods_and_spell_what_there_is() -> None:
    assert set(HINTS) <= SPECIAL
    assert not {"__eq__", "__ne__", "__getitem__", "__hash__", "__await__"} & set(HINTS)
