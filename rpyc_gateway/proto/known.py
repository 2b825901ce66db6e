"""Classes of this process: by the names that a peer gives, and by what peers are told of them. No code of any class runs for it."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Mapping
from typing import TypeGuard

from rpyc_gateway.weak import WeakTable

__all__ = ["class_numbered", "find_class", "members", "mro_of", "names_of", "number_of", "printable"]


def find_class(module: str, name: str) -> type | None:
    """The class with this module and qualified name, if that is imported already; never one of `__main__`."""
    if module == "__main__":
        return None  # every process has another
    if module == "builtins" and name in _UNNAMED:
        return _UNNAMED[name]
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = _namespace(found).get(part)
    return found if _is_class(found) else None


# Builtin classes that have no name in `builtins`: function, method, generator, module, NoneType, dict_keys ...
_UNNAMED: dict[str, type] = {
    kind.__qualname__: kind
    for kind in (
        *(kind for kind in vars(types).values() if isinstance(kind, type) and kind.__module__ == "builtins"),
        *map(
            type,
            ({}.keys(), {}.values(), {}.items(), iter([]), iter({}), iter(()), iter(""), iter(set()), iter(range(0))),
        ),
    )
}


def _namespace(value: object) -> Mapping[str, object]:
    # Not getattr: a module or a metaclass may have a __getattr__ of its own, which imports or worse.
    if issubclass(type(value), types.ModuleType):
        return object.__getattribute__(value, "__dict__")  # type: ignore[no-any-return]
    return members(value) if _is_class(value) else {}


members: Callable[[type], Mapping[str, object]] = type.__dict__["__dict__"].__get__
"""What a class itself defines, without a word to its metaclass."""

mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
"""A class and its ancestors, without a word to its metaclass, which could answer anything."""


def _is_class(value: object) -> TypeGuard[type]:
    return issubclass(type(value), type)  # not isinstance, which asks for a `__class__` that anything may answer


def names_of(cls: type) -> tuple[str, str]:
    """The module and the qualified name of a class, without a word to its metaclass, as they can be sent."""
    try:
        module = type.__dict__["__module__"].__get__(cls)
    except AttributeError:  # made where `__name__` was not set, or deleted
        module = None
    name = type.__dict__["__qualname__"].__get__(cls)
    return printable(module) if type(module) is str else "?", printable(name)


def printable(text: object) -> str:
    """A text without lone surrogates, which a name on the wire cannot have."""
    return str(text).encode("utf-8", "backslashreplace").decode()


_numbers = itertools.count(1)  # never used again in the life of the process, in case a peer remembers one
_numbered: WeakTable[type, int] = WeakTable()
_by_number: WeakTable[type, None] = WeakTable()


def number_of(cls: type) -> int:
    """The number of a class in this vat; 0 for one that is found by its name."""
    if find_class(*names_of(cls)) is cls:
        return 0
    number = _numbered.fact(id(cls))
    if number is None:
        number = next(_numbers)
        _numbered.keep(id(cls), cls, number)
        _by_number.keep(number, cls, None)
    return number


def class_numbered(number: int) -> type | None:
    """The class of this vat with this number, if it lives."""
    return _by_number.object(number)
