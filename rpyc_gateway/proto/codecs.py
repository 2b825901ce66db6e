"""Types of a program that travel by value: what a codec is registered for at both ends (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpyc_gateway.errors import EncodeError, NoCodec, ProtocolError
from rpyc_gateway.proto.values import DEPTH, READERS, WRITERS, Ext, Reader, Writer, read_structure, travels, write_bytes

__all__ = ["add_reader", "drop_codec", "register", "write_buffer"]

NAME = 200
"""Characters of a codec's name: enough for a module and a qualified name."""

_CODED: dict[str, Callable[[Reader, Any, int], Any]] = {}
"""What rebuilds the values of ext 11, by name."""


def register(
    kind: type, encode: Callable[[Any], object], decode: Callable[[Any], object], name: str, write: Callable[..., Any]
) -> None:
    """Let values of exactly this type travel by value; `write(writer, structure, depth)` writes what `encode` returns.

    Raises ValueError if the type or the name has a codec, or the type travels by value anyway. Any thread may call it.
    """
    if not 0 < len(name) <= NAME or not name.isprintable():
        raise ValueError(f"a codec's name is 1 to {NAME} printable characters, not {name[:NAME]!r}")
    if travels(kind):
        raise ValueError(f"{kind.__qualname__} travels by value already")

    def write_value(writer: Writer, value: object, depth: int) -> Any:
        if depth >= DEPTH:
            raise EncodeError(f"the codec {name!r} makes values of its own type, deeper than {DEPTH} levels")
        structure = _run(encode, value, EncodeError, f"the codec {name!r} cannot encode")
        return writer.coded(name, write(writer, structure, depth + 1))

    def read_value(reader: Reader, item: Any, depth: int) -> Any:
        structure = reader.value(item, depth)
        where = f" of {reader.node}" if reader.node else ""
        return _run(decode, structure, ProtocolError, f"the codec {name!r}{where} cannot decode")

    if not add_reader(name, read_value):
        raise ValueError(f"the codec name {name!r} is taken")
    if WRITERS.setdefault(kind, write_value) is not write_value:  # atomic: of two threads one is refused
        drop_codec(None, name)
        raise ValueError(f"{kind.__qualname__} travels by value already")


def _run(function: Callable[[Any], Any], value: object, failure: type[EncodeError | ProtocolError], what: str) -> Any:
    try:
        return function(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a value must not end the process, or the session
        raise failure(f"{what} a {type(value).__qualname__}: {type(error).__qualname__}: {_text(error)}") from error


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # a defect of the exception must not hide what it reports
        return "(its text cannot be had)"


def add_reader(name: str, read: Callable[[Reader, Any, int], Any]) -> bool:
    """Let `read` rebuild what comes as ext 11 with this name. False if the name is taken."""
    return _CODED.setdefault(name, read) is read


def drop_codec(kind: type | None, name: str) -> None:
    """Forget what was registered."""
    _CODED.pop(name, None)
    if kind is not None:
        WRITERS.pop(kind, None)


def write_buffer(writer: Writer, view: memoryview) -> Any:
    """What stands for the bytes of a view. They are not copied if they are many, and stay what they are until they are sent."""
    if not view.c_contiguous or (writer.snapshot and not view.readonly):
        return write_bytes(writer, view.tobytes(), 0)
    return write_bytes(writer, view.cast("B") if view.nbytes else b"", 0)


def _read_coded(reader: Reader, data: bytes, depth: int) -> object:
    name, item = read_structure(data)
    read = _CODED.get(name)
    if read is None:
        where = reader.node or "this node"
        raise NoCodec(f"{where} has no codec {str(name)[:NAME]!r}: register it there too, with gw.register_codec")
    if depth >= DEPTH:
        raise ProtocolError(f"value nested deeper than {DEPTH} levels")
    return read(reader, item, depth + 1)


READERS[Ext.CODEC] = _read_coded
