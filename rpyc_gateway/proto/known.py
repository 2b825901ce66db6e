"""Classes of this process by the names that a peer gives: looked up in what is imported already, where no code can run."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import TypeGuard

__all__ = ["find_class", "members", "mro_of"]


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


def members(cls: type) -> Mapping[str, object]:
    """What a class itself defines, without a word to its metaclass."""
    return type.__dict__["__dict__"].__get__(cls)  # type: ignore[no-any-return]


def mro_of(cls: type) -> tuple[type, ...]:
    """A class and its ancestors, without a word to its metaclass, which could answer anything."""
    return type.__dict__["__mro__"].__get__(cls)  # type: ignore[no-any-return]


def _is_class(value: object) -> TypeGuard[type]:
    return issubclass(type(value), type)  # not isinstance, which asks for a `__class__` that anything may answer
