"""The tree of exceptions: as drawn, complete, and the same on both ends of a wire."""

from __future__ import annotations

import re

import pytest

from rpyc_gateway import errors
from rpyc_gateway.errors import Code, Denied, GatewayError, LinkLost, Unreachable, error_for


def drawn() -> dict[str, tuple[str, str]]:
    """Each class in the picture, with the class above it and the builtin it says to be too."""
    assert errors.__doc__
    above = ["GatewayError"]
    found = {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"([│ ]*)[├└]── (\w+)(?:.*\(also an? (\w+)\))?", line)
        if match:
            depth = len(match[1]) // 4 + 1
            above[depth:] = [match[2]]
            found[match[2]] = (above[depth - 1], match[3] or "")
    return found


def test_the_tree_is_as_it_is_drawn() -> None:
    classes = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, GatewayError)
    }
    assert set(drawn()) == set(classes) - {"GatewayError"}
    for name, (parent, builtin) in drawn().items():
        also = [base.__name__ for base in classes[name].__bases__ if base.__module__ == "builtins"]
        assert classes[name].__bases__[0].__name__ == parent
        assert also == ([builtin] if builtin else [])


@pytest.mark.parametrize("code", Code)
def test_every_code_of_the_wire_has_an_error(code: Code) -> None:
    error = error_for(code, "no", "relay")
    assert (str(error), error.hop) == ("no (said by relay)", "relay")
    assert (type(error) is GatewayError) == (code is Code.INTERNAL)


def test_a_code_from_a_later_version_is_an_error_all_the_same() -> None:
    assert type(error_for(999, "no")) is GatewayError


def test_the_hop_is_named_once() -> None:
    assert str(error_for(Code.DENIED, "relay says no", "relay")) == "relay says no"
    assert str(error_for(Code.DENIED, "", "relay")).endswith("(said by relay)")


def test_users_can_catch_them_by_the_builtin_names() -> None:
    assert issubclass(Denied, PermissionError)
    assert issubclass(Unreachable, ConnectionError)
    assert issubclass(LinkLost, ConnectionError)


def test_a_hop_is_named_unless_it_is_the_reader_itself() -> None:
    assert str(error_for(Code.DENIED, "no", "relay")) == "no (said by relay)"
    assert str(error_for(Code.DENIED, "relay says no", "relay")) == "relay says no"
    assert str(error_for(Code.DENIED, "no", "laptop", here="laptop")) == "no"
