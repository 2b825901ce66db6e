"""Class statements with a remote base: the class is made where its base is, and its functions stay here.

    class Task(conn.modules.threading.Thread):
        def run(self): ...

`Task` is the proxy of a class over there, whose `run` is called here, by remote code too.
"""

from __future__ import annotations

from types import CellType
from typing import Any

from rpyc_gateway.classes import described
from rpyc_gateway.held import Held, held_by
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.values import Result
from rpyc_gateway.weak import WeakTable

__all__ = ["declared_bases", "mro_entries"]


def mro_entries(_class: object, _bases: tuple[object, ...]) -> tuple[type, ...]:
    """What a class statement takes in place of a remote base: somebody who makes the class over there."""
    return (_Statement,)


class _Declaring(type):
    """Is called at the end of a class statement, and returns the proxy of the class that was made."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: object) -> Any:
        written = namespace.pop("__orig_bases__", None)
        return (
            super().__new__(mcs, name, bases, namespace)
            if written is None
            else _declare(name, written, namespace, options)
        )


class _Statement(metaclass=_Declaring):
    """Stands for the remote bases of a class until the statement is over."""


def _declare(name: str, bases: tuple[Any, ...], namespace: dict[str, Any], options: dict[str, object]) -> Any:
    first = next(held_by(base) for base in bases if described(base) is not None)
    for base in bases:
        info = described(base)
        if info is None or not info.flags & ClassInfo.IS_CLASS or held_by(base).caller is not first.caller:
            raise TypeError(
                f"class {name} is made where its base {first.info.name} is: {base!r} is no class of that session, and cannot be a base of it too"
            )
    cell = namespace.pop("__classcell__", None)
    made = first.caller.ask(
        0,
        (
            (Verb.GET, 0, "builtins"),
            (Verb.GET, 1, "dict"),
            (Verb.CALL, 2, (tuple(namespace.items()),), {}),
            (Verb.VALUE, 0, bases[0]),
            (Verb.GET, 4, "__class__"),
            (Verb.CALL, 5, (name, tuple(bases), Result(3)), options),
        ),
    )
    if isinstance(cell, CellType):  # some function says super()
        cell.cell_contents = _base_of(made)
    return made


# -- super() --------------------------------------------------------------------------------------------------------------
#
# `super()` looks for names in the dictionaries of local classes, behind the class in the cell `__class__`. So a class stands there that the
# proxies of instances inherit from, and behind it one with every name that the remote ancestors have.

_declared: WeakTable[type, None] = WeakTable()


def _base_of(cls: Any) -> type:
    held = held_by(cls)
    names = held.op("__dir__")
    inherited = {name: _Inherited(cls, name) for name in names if name not in _STRUCTURE}
    behind = type("Inherited", (), {"__slots__": (), **inherited})
    return _declared.keep(_key(held, held.info.ids[0]), type(held.info.name, (behind,), {"__slots__": ()}), None)


# What makes a class or an instance what it is here; and `__new__` gets a class, for which there is no super().
_STRUCTURE = frozenset(
    [
        "__new__",
        "__class__",
        "__dict__",
        "__weakref__",
        "__slots__",
        "__module__",
        "__doc__",
        "__getattribute__",
        "__init_subclass__",
        "__subclasshook__",
        "__class_getitem__",
    ]
)


class _Inherited:
    """`super().name` of an instance of a class that was declared here."""

    def __init__(self, cls: Any, name: str) -> None:
        self._class = cls
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        held = held_by(self._class)
        return held.caller.ask(
            0,
            (
                (Verb.GET, 0, "builtins"),
                (Verb.GET, 1, "super"),
                (Verb.CALL, 2, (self._class, instance), {}),
                (Verb.GET, 3, self._name),
            ),
        )


def declared_bases(held: Held) -> tuple[type, ...]:
    """The classes that proxies of this object inherit from: one for each that was declared here, of its class and its ancestors."""
    if not len(_declared):
        return ()
    declared = (_declared.object(_key(held, number)) for number in held.info.ids if number)
    return tuple(base for base in declared if base is not None)


def _key(held: Held, number: int) -> tuple[bytes, int]:
    return held.vat if held.vat is not None else held.caller.peer_vat, number
