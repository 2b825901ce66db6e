"""A name finds the class that is here already, and touches nothing on the way."""

from __future__ import annotations

import gc
import json
import sys
import types

import pytest

from rpyc_gateway.proto.known import class_numbered, find_class, number_of


class Outer:
    """Holds another class."""

    class Inner:
        """Is found through it."""


def test_classes_are_found_where_they_are_defined() -> None:
    assert find_class("builtins", "list") is list
    assert find_class("json.decoder", "JSONDecodeError") is json.JSONDecodeError
    assert find_class(__name__, "Outer.Inner") is Outer.Inner


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "len"),
        ("builtins", "nothing"),
        ("builtins", ""),
        ("no.such.module", "X"),
        ("json", "decoder"),
        (__name__, "Outer.<locals>.Inner"),
        (__name__, "Outer.Inner.__doc__"),
    ],
)
def test_what_is_no_class_is_not_found(module: str, name: str) -> None:
    assert find_class(module, name) is None


def test_main_is_another_module_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    main.Outer = Outer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert find_class("__main__", "Outer") is None


def test_nothing_is_imported_and_no_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> object:
            asked.append(name)
            return Outer

    class Meta(type):
        def __getattr__(cls, name: str) -> object:
            asked.append(name)
            return Outer

    class Liar:
        @property
        def __class__(self) -> type:
            asked.append("__class__")
            return type

    module = types.ModuleType("lazy_functions")
    module.__dict__.update(__getattr__=asked.append, Meta=Meta("Meta", (), {}), liar=Liar())
    monkeypatch.setitem(sys.modules, "lazy_functions", module)
    monkeypatch.setitem(sys.modules, "lazy_class", Lazy("lazy_class"))
    asked.clear()
    for path in ("Absent", "Meta.Absent", "liar", "liar.Absent"):
        assert find_class("lazy_functions", path) is None
    assert find_class("lazy_class", "Outer") is None
    assert find_class("email.mime.audio", "MIMEAudio") is None
    assert asked == []


def test_a_class_has_one_number_if_its_name_does_not_find_it() -> None:
    def twin() -> type:
        return type("Twin", (), {})

    first, second = twin(), twin()
    assert number_of(list) == 0
    assert 0 != number_of(first) != number_of(second) != 0
    assert number_of(first) == number_of(first)
    assert class_numbered(number_of(second)) is second
    number = number_of(first)
    del first
    gc.collect()
    assert class_numbered(number) is None
