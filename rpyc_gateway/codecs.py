"""Types of yours that travel by value: `register_codec`, and ready-made codecs for types that many know."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from rpyc_gateway.classes import RemoteObject
from rpyc_gateway.proto.codecs import register
from rpyc_gateway.proto.copies import write_parts
from rpyc_gateway.proto.values import travels

__all__ = ["register_codec", "register_numpy"]

_T = TypeVar("_T")


def register_codec(
    type: type[_T],  # noqa: A002  # what a reader of the call expects
    encode: Callable[[_T], object],
    decode: Callable[[Any], _T],
    *,
    name: str | None = None,
) -> None:
    """Let values of exactly this type travel by value, wherever they occur. To be called in the processes at both ends.

    `encode(value)` returns what makes it up: values that travel anyway, builtin containers of them, and bytes or memoryviews, which
    are not copied on the way to the wire where they are long and read-only. `decode` is given the same, with bytes for views. Both
    run in whichever thread sends or receives (in trio code the trio thread), hold nobody's lock and must not block; what they
    raise fails the call that the value belongs to. `name` is what the two ends know it by: by default module and qualified name.

    Raises ValueError if the type or the name is registered already or the type travels by value anyway, TypeError for what is no
    class. Any thread may call it.
    """
    if not isinstance(type, builtin_type):
        raise TypeError(f"a codec is registered for a class, not for {type!r}")
    if not all(map(callable, (encode, decode))):
        raise TypeError("encode and decode must be callable")
    if issubclass(type, builtin_type | RemoteObject):
        raise ValueError(f"{type.__qualname__} cannot travel by value: classes and proxies are references")
    register(type, encode, decode, f"{type.__module__}.{type.__qualname__}" if name is None else name, write_parts)


builtin_type = type


def register_numpy() -> None:
    """Let numpy arrays and scalars travel by value: call it at both ends. Raises ImportError without numpy.

    An array that was read-only arrives read-only, on top of the bytes that came; for any other those are copied once. Arrays of
    objects cannot be sent. Called again it does nothing: clients of one node need not know of each other.
    """
    import numpy as np  # for those who have it

    def encode(array: Any) -> object:
        if array.dtype.hasobject:
            raise TypeError("an array of objects: make it a list")
        order: Any = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        flat = np.ravel(array, order=order)  # no copy of what is in one piece
        data: Any = memoryview(flat.view(np.uint8).data) if flat.size else b""
        if flat.base is None and flat.flags.owndata:  # it had to be copied: nobody else will change it
            data = memoryview(data).toreadonly()
        return np.lib.format.dtype_to_descr(array.dtype), array.shape, order, data, bool(array.flags.writeable)

    def decode(parts: Any) -> Any:
        descr, shape, order, data, writeable = parts
        array = np.frombuffer(data, np.lib.format.descr_to_dtype(descr)).reshape(shape, order=order)
        return array.copy(order="K") if writeable else array

    def scalar(value: Any) -> object:
        return np.lib.format.dtype_to_descr(value.dtype), value.tobytes()

    with _registering:
        if travels(np.ndarray):
            return
        register_codec(np.ndarray, encode, decode, name="numpy.ndarray")
        for kind in {np.dtype(code).type for code in "?bhilqBHILQefdgFDGMm"}:
            register_codec(
                kind,
                scalar,
                lambda parts: np.frombuffer(parts[1], np.lib.format.descr_to_dtype(parts[0]))[0],
                name=f"numpy.{kind.__name__}",
            )


_registering = threading.Lock()
