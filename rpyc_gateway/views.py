"""Restricted views: what of an object others get to see and to change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rpyc_gateway.errors import NotExposed

__all__ = ["Restricted", "restricted", "shows"]


class Restricted:
    """Stands for an object, and has of its attributes those that are named: read, or set. Nothing else of it is reached by way of this."""

    __slots__ = ("__gw_object__", "__gw_reads__", "__gw_writes__", "__weakref__")

    def __getattribute__(self, name: str) -> Any:
        if name in _own(self, "__gw_reads__"):
            return getattr(_own(self, "__gw_object__"), name)
        if name.startswith("__") and name.endswith("__"):
            return _own(self, name)
        raise NotExposed(f"{name!r} of {_kind(self)!r} objects is not exposed in this view")

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _own(self, "__gw_writes__"):
            raise NotExposed(f"{name!r} of {_kind(self)!r} objects cannot be set in this view")
        setattr(_own(self, "__gw_object__"), name, value)

    def __delattr__(self, name: str) -> None:
        raise NotExposed(f"{name!r} of {_kind(self)!r} objects cannot be deleted in a view")

    def __dir__(self) -> list[str]:
        return sorted({*_own(self, "__gw_reads__"), *_own(self, "__gw_writes__")})

    def __repr__(self) -> str:
        return f"<restricted view of a {_kind(self)} object: {', '.join(dir(self))}>"

    def __reduce_ex__(self, _protocol: object) -> Any:
        raise TypeError("a restricted view is not copied or pickled: that would take along all of its object")


_own = object.__getattribute__


def _kind(view: Restricted) -> str:
    return type(_own(view, "__gw_object__")).__name__


def restricted(obj: object, attrs: Iterable[str], wattrs: Iterable[str] | None = None) -> Any:
    """A view of `obj` to hand out: `attrs` can be read (and called, where they are methods), `wattrs` set; None is the same ones, as in RPyC.

    Everything else is refused with NotExposed, an AttributeError. Whoever is served `classic` reaches all of this process anyway.
    """
    reads = _names(attrs)
    writes = reads if wattrs is None else _names(wattrs)
    view = object.__new__(Restricted)
    for name, value in (("__gw_object__", obj), ("__gw_reads__", reads), ("__gw_writes__", writes)):
        object.__setattr__(view, name, value)
    return view


def _names(attrs: Iterable[str]) -> frozenset[str]:
    if isinstance(attrs, str):
        raise TypeError(f"a view has a set of names, not the text {attrs!r}: {{{attrs!r}}}")
    try:
        names = frozenset(attrs)
    except TypeError as exc:
        raise TypeError(f"a view has a set of names, such as {{'read', 'close'}}, and not {attrs!r}") from exc
    special = sorted(name for name in names if name.startswith("__") and name.endswith("__"))
    if special:
        raise TypeError(f"special methods belong to classes, and a view has none: {', '.join(special)}")
    return names


def shows(view: Restricted, name: str) -> bool:
    """Whether an attribute can be read or set by way of a view; which of the two, it says itself."""
    return name in _own(view, "__gw_reads__") or name in _own(view, "__gw_writes__")
