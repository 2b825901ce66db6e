"""What the proxy of a class can do beyond that of another object: judge instances and subclasses, and be inherited from."""

from __future__ import annotations

from typing import Any

from rpyc_gateway.classes import described, local_class
from rpyc_gateway.declaring import mro_entries
from rpyc_gateway.held import held_by
from rpyc_gateway.likeness import ancestors
from rpyc_gateway.proto.messages import ClassInfo

__all__ = ["CLASS_PROXY"]


def _instancecheck(self: Any, instance: object) -> bool:
    """Whether an object of either side is an instance: by what was said of the classes, with no word to anybody.

    A class whose own metaclass judges instances (an abstract one, say) is asked if that says no.
    """
    info = held_by(self).info
    theirs = described(instance)
    if theirs is not None and not theirs.flags & ClassInfo.IS_CLASS and theirs.derives_from(info):
        return True
    known = local_class(info)
    if known is not None and isinstance(instance, known):
        return True
    return _asks(self, "__instancecheck__", instance)


def _subclasscheck(self: Any, cls: Any) -> bool:
    """The same for a class of either side; the class of a proxy, too."""
    info = held_by(self).info
    theirs = described(cls)
    if theirs is None:
        kind = getattr(cls, "__gw_kind__", None) if isinstance(cls, type) else None
        theirs = kind.info if kind is not None else None
    elif not theirs.flags & ClassInfo.IS_CLASS:
        raise TypeError("issubclass() arg 1 must be a class")
    if theirs is not None and theirs.derives_from(info):
        return True
    known = local_class(info)
    if known is not None and issubclass(cls, known):
        return True
    return _asks(self, "__subclasscheck__", cls)


def _asks(cls: Any, name: str, value: object) -> bool:
    held = held_by(cls)
    return name in held.info.special and bool(held.op(name, value))


def _bases(self: Any) -> tuple[type, ...]:
    """What `issubclass(proxy, X)` asks for where X is a class of this process: those of the original's ancestors that are known here."""
    return tuple(ancestors(held_by(self).info))


CLASS_PROXY: dict[str, Any] = {
    "__instancecheck__": _instancecheck,
    "__subclasscheck__": _subclasscheck,
    "__bases__": property(_bases),
    "__mro_entries__": mro_entries,
}
"""Members of the class of such a proxy."""
