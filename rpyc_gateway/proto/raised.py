"""Exceptions <-> values: real types where they are known here, otherwise a class made once (docs/protocol.md, section 11).

Nothing is imported and no constructor outside the standard library's builtins runs to rebuild one.
"""

from __future__ import annotations

import traceback
import types
from typing import Any

from rpyc_gateway.errors import GatewayError, ProtocolError, RemoteError
from rpyc_gateway.proto.known import find_class
from rpyc_gateway.proto.values import Reader, Writer, by_value

__all__ = ["read_exception", "remote_path", "remote_traceback", "write_exception"]

DEPTH = 8
"""Causes, contexts and generations of children that are sent."""

NOTES = 100
"""Notes of one exception that are sent."""

TRACEBACK_LIMIT = 20_000
"""Characters of one traceback: deep recursion must not make the answer a bulk transfer."""

_TRACEBACK = "__gw_traceback__"
_PATH = "__gw_path__"
_NOTE = "--- remote traceback"

# What is neither of these would end a process or unwind its tasks: SystemExit, KeyboardInterrupt, GeneratorExit, trio.Cancelled.
_REBUILT = frozenset({("builtins", "Exception"), ("builtins", "BaseExceptionGroup")})


def remote_traceback(error: BaseException) -> str:
    """The text of the traceback on the far side, "" for an exception that was raised here."""
    return str(_own(error).get(_TRACEBACK, ""))


def remote_path(error: BaseException) -> tuple[str, ...]:
    """The nodes an exception came through, the one that raised it first."""
    path: tuple[str, ...] = _own(error).get(_PATH, ())
    return path


def _own(error: BaseException) -> dict[str, Any]:
    # Not getattr: a class may answer to every name.
    own: dict[str, Any] = object.__getattribute__(error, "__dict__")
    return own


# -- writing ------------------------------------------------------------------------------------------------------------


def write_exception(error: BaseException, writer: Writer, node: str, depth: int = 0) -> Any:
    """What stands for an exception in a packed structure. Runs its `__str__`, and the reference callback for what goes by reference."""
    below = depth + 1
    deeper = depth < DEPTH
    cause = error.__cause__ if deeper else None
    context = error.__context__ if deeper and not error.__suppress_context__ else None
    children = error.exceptions if isinstance(error, BaseExceptionGroup) and deeper else None
    return [
        [[_printable(base.__module__), _printable(base.__qualname__)] for base in _ancestors(type(error))],
        [_value(argument, writer) for argument in _arguments(error)],
        [[_printable(name), _value(value, writer)] for name, value in _attributes(error)],
        [note for note in map(_printable, _notes(error)) if not note.startswith(_NOTE)],
        None if cause is None else write_exception(cause, writer, node, below),
        None if context is None else write_exception(context, writer, node, below),
        error.__suppress_context__,
        None if children is None else [write_exception(child, writer, node, below) for child in children],
        _printable(_traceback(error)),
        _printable(_safely(str, error)),
        [*remote_path(error), *([node] if node else [])],
    ]


def _ancestors(kind: type[BaseException]) -> list[type[BaseException]]:
    return [base for base in kind.__mro__ if issubclass(base, BaseException)]


def _arguments(error: BaseException) -> tuple[object, ...]:
    if isinstance(error, BaseExceptionGroup):
        return (_safely(str, error.message),)
    return error.args


def _attributes(error: BaseException) -> list[tuple[str, object]]:
    own = _own(error).items()
    found = [(name, value) for name, value in own if type(name) is str and not name.startswith("_")]
    for base, names in _MEMBERS:
        if isinstance(error, base):
            members = ((name, vars(base)[name].__get__(error)) for name in names)
            found += [
                (name, value if by_value(value) else _safely(str, value))
                for name, value in members
                if value is not None
            ]
    return found


# What the args of builtins leave out. Names and paths: they go by value.
_MEMBERS: tuple[tuple[type[BaseException], tuple[str, ...]], ...] = (
    (ImportError, ("name", "path")),
    (NameError, ("name",)),
    (AttributeError, ("name",)),
    (OSError, ("filename", "filename2")),
)


def _notes(error: BaseException) -> list[str]:
    notes = _own(error).get("__notes__", ())
    return [_safely(str, note) for note in notes[:NOTES]] if type(notes) in (list, tuple) else []


def _value(value: object, writer: Writer) -> Any:
    try:
        return writer.value(value)
    except Exception:  # noqa: BLE001  # whatever cannot be sent, for whatever reason: its repr can
        return writer.value(_safely(repr, value))


def _safely(render: Any, value: object) -> str:
    try:
        return str.__getitem__(render(value), slice(TRACEBACK_LIMIT))
    except BaseException as problem:  # noqa: BLE001  # SystemExit too: an error must not hide the one that is reported
        return f"<{type(value).__qualname__}, whose {render.__name__}() raises {type(problem).__qualname__}>"


def _traceback(error: BaseException) -> str:
    earlier = remote_traceback(error)
    try:
        report = traceback.TracebackException(type(error), error, error.__traceback__)
        _without_notes(report)
        here = "".join(report.format(chain=False))
    except BaseException as problem:  # noqa: BLE001  # as above
        here = f"<the traceback cannot be formatted: {type(problem).__qualname__}>"
    return f"{earlier}{here}"[-TRACEBACK_LIMIT:]


def _without_notes(report: traceback.TracebackException) -> None:
    report.__notes__ = []  # they travel by themselves
    for member in getattr(report, "exceptions", None) or ():
        _without_notes(member)


def _printable(text: object) -> str:
    return str(text).encode("utf-8", "backslashreplace").decode()


# -- reading ------------------------------------------------------------------------------------------------------------


def read_exception(structure: Any, reader: Reader, way: tuple[str, ...] = (), depth: int = 0) -> BaseException:
    """The exception that a received structure describes, with the remote traceback attached as a note.

    `way` are the nodes it came through, its sender first. Raises ProtocolError.
    """
    if type(structure) is not list or len(structure) < 11 or depth > DEPTH:
        raise ProtocolError("an exception cannot be read")
    mro, arguments, attributes, notes, cause, context, suppress, children, trace, text, path = structure[:11]
    try:
        names = _names(mro)
        values = tuple(reader.value(argument) for argument in arguments)
        inner = None if children is None else [read_exception(child, reader, way, depth + 1) for child in children]
        error = _rebuild(names, values, inner, str(text))
        for name, value in attributes:
            _attach(error, str(name), reader.value(value))
        nodes = (*(str(node) for node in path), *way[1:])
        said = [str(note) for note in notes]
    except (TypeError, ValueError, IndexError) as problem:
        raise ProtocolError(f"an exception cannot be read: {problem}") from problem
    if depth == 0:
        said.append(f"{_NOTE} ({' -> '.join(nodes)}) ---\n{trace}".rstrip())
    _own(error).update({_TRACEBACK: str(trace), _PATH: nodes, "__notes__": said})
    _set(error, "__cause__", None if cause is None else read_exception(cause, reader, way, depth + 1))
    _set(error, "__context__", None if context is None else read_exception(context, reader, way, depth + 1))
    _set(error, "__suppress_context__", bool(suppress))
    return error


def _set(error: BaseException, name: str, value: object) -> None:
    """What every exception has, although its class may have a property or a `__setattr__` for it."""
    vars(BaseException)[name].__set__(error, value)


def _names(mro: Any) -> list[tuple[str, str]]:
    names = [(str(module), str(name)) for module, name in mro]
    if len(names) > 100 or any(len(module) > 500 or len(name) > 500 for module, name in names):
        raise ValueError("the names of its class and ancestors are too long")  # stand-ins are kept for ever
    return names


def _attach(error: BaseException, name: str, value: object) -> None:
    """Set an attribute without running a property or `__setattr__` of the class."""
    if name.startswith("__"):
        return
    for base in filter(_is_builtin, type(error).__mro__):
        member = vars(base).get(name)
        if member is None:
            continue
        if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType) and by_value(value):
            try:
                member.__set__(error, value)
            except (AttributeError, TypeError, ValueError):
                return  # it is for reading only, or of another type: the builtin knows better
        return
    _own(error)[name] = value


def _is_builtin(kind: type) -> bool:
    return (
        not kind.__flags__ & 1 << 9
    )  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or by a module that was imported


def _rebuild(
    mro: list[tuple[str, str]], arguments: tuple[object, ...], children: list[BaseException] | None, text: str
) -> BaseException:
    if _REBUILT.isdisjoint(mro):
        name = mro[0][1] if mro else "an exception without a class"
        return RemoteError(f"{name}: {text}" if text else name)
    kind = _known(mro[0]) or _stand_in(mro)
    if issubclass(kind, ExceptionGroup):
        errors = children or [RemoteError(text or "an exception group whose members were not sent")]
        message = arguments[0] if arguments and type(arguments[0]) is str else text
        return BaseExceptionGroup.__new__(kind, message, errors)
    return _instance(kind, arguments, text)


def _known(name: tuple[str, str]) -> type[Exception] | None:
    """The exception class of this process with this name; what a peer says of its ancestors does not count."""
    found = find_class(*name)
    if found is BaseExceptionGroup:
        return ExceptionGroup  # its members are rebuilt as ordinary errors
    return found if found is not None and issubclass(found, Exception) else None


_stand_ins: dict[tuple[tuple[str, str], ...], type[Exception]] = {}


def _stand_in(mro: list[tuple[str, str]]) -> type[Exception]:
    """A class generated once for a remote class that is not known here, under the nearest ancestor that is."""
    key = tuple(mro)
    made = _stand_ins.get(key)
    if made is not None:
        return made
    known = (kind for kind in map(_known, mro[1:]) if kind is not None and _is_plain(kind))
    parent = next(known, Exception)
    if len(_stand_ins) >= 10_000:  # a peer that invents classes gets the plain ancestor
        return parent
    module, name = mro[0]
    made = type(name.rpartition(".")[2], (parent,), {"__module__": module, "__qualname__": name, "__gw_remote__": True})
    return _stand_ins.setdefault(key, made)


def _is_plain(kind: type[Exception]) -> bool:
    """Whether a subclass can be made without running code of this process."""
    return type(kind) is type and not any("__init_subclass__" in vars(base) for base in kind.__mro__[:-1])


def _instance(kind: type[Exception], arguments: tuple[object, ...], text: str) -> BaseException:
    if issubclass(kind, GatewayError):
        return kind(text) if kind.__init__ is GatewayError.__init__ else RemoteError(text)
    base: Any = next(filter(_is_builtin, kind.__mro__))
    try:
        # The builtin's own constructor, not the subclass's: no code of this process runs on a peer's arguments.
        error: BaseException = base.__new__(kind, *arguments) if _is_readable(base, arguments) else base.__new__(kind)
        if _is_readable(base, arguments):
            base.__init__(error, *arguments)
    except (TypeError, ValueError, IndexError, OverflowError):
        return _stand_in([(kind.__module__, kind.__qualname__), ("builtins", "Exception")])(text)
    if not (isinstance(error, OSError) and error.errno is not None):
        _set(error, "args", arguments)
    return error


def _is_readable(base: type[BaseException], arguments: tuple[object, ...]) -> bool:
    """Whether a builtin's constructor only stores its arguments, or can look into them without a call to the peer."""
    return not issubclass(base, OSError | UnicodeError | SyntaxError) or all(map(by_value, arguments))
