"""Exception objects past their classes: read, made and filled without running any code of this process but that of builtins."""

from __future__ import annotations

import types
from typing import Any

from rpyc_gateway.errors import GatewayError, RemoteError
from rpyc_gateway.proto.kinds import is_made
from rpyc_gateway.proto.known import members
from rpyc_gateway.proto.values import by_value

__all__ = ["construct", "field", "is_builtin", "keep", "own", "set_field"]

_dict_of = vars(BaseException)["__dict__"].__get__


def own(error: BaseException) -> dict[str, Any]:
    """The attributes of an exception itself."""
    attributes: dict[str, Any] = _dict_of(error)  # not getattr: a class may answer to every name
    return attributes


def field(error: BaseException, name: str, kind: type[BaseException] = BaseException) -> Any:
    """What every exception of the builtin class `kind` has, although its class may have a property for it."""
    return members(kind)[name].__get__(error)  # type: ignore[attr-defined]


def set_field(error: BaseException, name: str, value: object) -> None:
    """Set what every exception has, although its class may have a property or a `__setattr__` for it."""
    members(BaseException)[name].__set__(error, value)  # type: ignore[attr-defined]


def keep(error: BaseException, name: str, value: object) -> None:
    """Set an attribute without running a property or `__setattr__` of the class."""
    if name.startswith("__"):
        return
    for base in filter(is_builtin, type(error).__mro__):
        member = vars(base).get(name)
        if member is None:
            continue
        if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType) and by_value(value):
            try:
                member.__set__(error, value)
            except (AttributeError, TypeError, ValueError):
                return  # it is for reading only, or of another type: the builtin knows better
        return
    own(error)[name] = value


def is_builtin(kind: type) -> bool:
    """Whether a class is part of the interpreter, and not made by a class statement or a module that was imported."""
    flags: int = type.__dict__["__flags__"].__get__(kind)
    return not flags & 1 << 9  # Py_TPFLAGS_HEAPTYPE


def construct(
    kind: type[Exception], name: str, arguments: tuple[object, ...], children: list[BaseException] | None, text: str
) -> BaseException:
    """An exception of `kind`, as near to what its original was made of as can be; `name` is that of the original's class."""
    if issubclass(kind, ExceptionGroup):
        errors = children or [RemoteError(text or "an exception group whose members were not sent")]
        message = arguments[0] if arguments and type(arguments[0]) is str else text
        return BaseExceptionGroup.__new__(kind, message, errors)
    if kind is RemoteError and name != RemoteError.__name__:
        return RemoteError(f"{name}: {text}" if text else name)
    if issubclass(kind, GatewayError) and not is_made(kind):
        return kind(text) if kind.__init__ is GatewayError.__init__ else RemoteError(text)
    base: Any = next(filter(is_builtin, kind.__mro__))
    error: BaseException
    try:
        # The builtin's own constructor, not the subclass's: no code of this process runs on a peer's arguments.
        readable = _is_readable(base, arguments)
        error = base.__new__(kind, *arguments) if readable else base.__new__(kind)
        if readable:
            base.__init__(error, *arguments)
    except (TypeError, ValueError, IndexError, OverflowError):
        error = base.__new__(
            kind
        )  # a class with a constructor of its own: what it made of its arguments is in the attributes
    if not (issubclass(base, OSError) and field(error, "errno", OSError) is not None):
        set_field(error, "args", arguments)
    if issubclass(kind, GatewayError):
        own(error)["hop"] = ""
    return error


def _is_readable(base: type[BaseException], arguments: tuple[object, ...]) -> bool:
    """Whether a builtin's constructor only stores its arguments, or can look into them without a call to the peer."""
    return not issubclass(base, OSError | UnicodeError | SyntaxError) or all(map(by_value, arguments))
