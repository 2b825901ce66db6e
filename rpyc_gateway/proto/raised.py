"""Exceptions <-> values: written as what they are, what they say, what led to them (docs/protocol.md, section 11).

Whatever the class of an exception makes of its attributes is read past it, and nothing is ever asked of a peer meanwhile.
"""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from rpyc_gateway.errors import ProtocolError
from rpyc_gateway.proto.kinds import KIND, TEXT, Kinds, original_kind
from rpyc_gateway.proto.known import members, mro_of, printable
from rpyc_gateway.proto.rebuilt import construct, field, is_builtin, keep, own, set_field
from rpyc_gateway.proto.values import Reader, Writer, by_value

__all__ = [
    "Parts",
    "Ticket",
    "Way",
    "build",
    "fill",
    "read_exception",
    "read_parts",
    "redeem",
    "remote_path",
    "remote_traceback",
    "way_home",
    "write_exception",
]

DEPTH = 8
"""Causes, contexts and generations of children that are sent."""

NOTES = 100
"""Notes of one exception that are sent."""

TRACEBACK_LIMIT = 20_000
"""Characters of one traceback: deep recursion must not make the answer a bulk transfer."""

FRAMES = 200
"""Frames of one traceback, the innermost ones: more would not fit, and each costs a look at its source."""

_TRACEBACK = "__gw_traceback__"
_PATH = "__gw_path__"
_HOME = "__gw_home__"
_NOTE = "--- remote traceback"

WAY = 12
"""Nodes of an exception's way that are shown: callbacks of callbacks pass the same ones again and again. `remote_path` has all."""


def remote_traceback(error: BaseException) -> str:
    """The text of the traceback on the far side, "" for an exception that was raised here."""
    return str(own(error).get(_TRACEBACK, ""))


def remote_path(error: BaseException) -> tuple[str, ...]:
    """The nodes an exception came through, the one that raised it first."""
    path: tuple[str, ...] = own(error).get(_PATH, ())
    return path


# -- the way home -------------------------------------------------------------------------------------------------------


class Ticket:
    """What is lent of an exception that goes by value: with it the peer sends the exception home, and can do nothing else."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error


def redeem(value: object) -> object:
    """The exception of a Ticket; anything else as it is."""
    return value._error if type(value) is Ticket else value  # noqa: SLF001  # a public name would be one for peers


class Way:
    """The way home of an exception that was rebuilt here: what is held of its original. It is left out of copies and pickles."""

    __slots__ = ("held",)

    def __init__(self, held: object = None) -> None:
        self.held = held

    def __reduce__(self) -> Any:
        return Way, ()


def way_home(error: BaseException) -> Any:
    """What is held of the original of an exception that was rebuilt here; None for any other."""
    way = own(error).get(_HOME)
    return way.held if type(way) is Way else None


# -- writing ------------------------------------------------------------------------------------------------------------


def write_exception(
    error: BaseException,
    writer: Writer,
    node: str,
    depth: int = 0,
    *,
    kinds: Kinds | None = None,
    itself: Callable[[BaseException], Any] | None = None,
) -> Any:
    """What stands for an exception in a packed structure. Runs its `__str__`, and the reference callback for what goes by reference.

    `itself` gives the item that stands for a way home to each exception.
    """
    kinds = kinds or Kinds()
    deeper = depth < DEPTH
    suppress = field(error, "__suppress_context__")

    def write(other: BaseException | None) -> Any:
        return None if other is None else write_exception(other, writer, node, depth + 1, kinds=kinds, itself=itself)

    def write_context() -> Any:
        if context is not None and context is cause:
            return True
        # A hidden one is of interest where it was hidden; further down it would double the work at each step.
        return write(context) if not suppress or depth == 0 else None

    cause, context = field(error, "__cause__"), field(error, "__context__")
    children = field(error, "exceptions", BaseExceptionGroup) if issubclass(type(error), BaseExceptionGroup) else None
    return [
        kinds.write(original_kind(error)),
        [_value(argument, writer) for argument in _arguments(error)],
        [[printable(name), _value(value, writer)] for name, value in _attributes(error)],
        [note for note in map(printable, _notes(error)) if not note.startswith(_NOTE)],
        write(cause) if deeper else None,
        write_context() if deeper else None,
        suppress,
        [write(child) for child in children] if children is not None and deeper else None,
        printable(_traceback(error)),
        printable(_text(error)),
        [*remote_path(error), *([node] if node else [])],
        itself(error) if itself is not None else None,
    ]


def _arguments(error: BaseException) -> tuple[object, ...]:
    if issubclass(type(error), BaseExceptionGroup):
        return (_safely(str, field(error, "message", BaseExceptionGroup)),)
    arguments: tuple[object, ...] = field(error, "args")
    return arguments


def _attributes(error: BaseException) -> list[tuple[str, object]]:
    found = [(name, value) for name, value in own(error).items() if type(name) is str and not name.startswith("_")]
    found += _slots(error)
    for base, names in _MEMBERS:
        if issubclass(type(error), base):
            values = ((name, field(error, name, base)) for name in names)
            found += [
                (name, value if by_value(value) else _safely(str, value)) for name, value in values if value is not None
            ]
    return found


def _slots(error: BaseException) -> list[tuple[str, object]]:
    """What a class keeps in slots of its own, by their descriptors: no property runs."""
    found: list[tuple[str, object]] = []
    member: Any
    for base in mro_of(type(error)):
        if not is_builtin(base):  # a class statement made it; what builtins keep is in their args and _MEMBERS
            for name, member in members(base).items():
                if type(member) is _Member and not name.startswith("_"):
                    try:
                        found.append((name, member.__get__(error)))
                    except AttributeError:
                        continue
    return found


class _Slotted:
    __slots__ = ("slot",)


_Member = type(vars(_Slotted)["slot"])

# What the args of builtins leave out. Names and paths: they go by value.
_MEMBERS: tuple[tuple[type[BaseException], tuple[str, ...]], ...] = (
    (ImportError, ("name", "path")),
    (NameError, ("name",)),
    (AttributeError, ("name",)),
    (OSError, ("filename", "filename2")),
    (SyntaxError, ("print_file_and_line",)),
)


def _notes(error: BaseException) -> list[str]:
    notes = own(error).get("__notes__", ())
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


def _text(error: BaseException) -> str:
    # The proxy of a peer's exception would ask its original.
    return str(own(error).get(TEXT, "")) if KIND in members(type(error)) else _safely(str, error)


def _traceback(error: BaseException) -> str:
    earlier = remote_traceback(error)
    trace = _without_house(field(error, "__traceback__"))
    if trace is None and not issubclass(type(error), BaseExceptionGroup):
        return earlier  # it was never raised here
    try:
        if KIND in members(type(error)):
            name = original_kind(error).__qualname__
            here = "".join(
                [
                    "Traceback (most recent call last):\n",
                    *traceback.format_tb(trace, limit=-FRAMES),
                    f"{name}: {_text(error)}\n",
                ]
            )
        else:
            report = traceback.TracebackException(type(error), error, trace, limit=-FRAMES)
            _without_notes(report)
            here = "".join(report.format(chain=False))
    except BaseException as problem:  # noqa: BLE001  # as above
        here = f"<the traceback cannot be formatted: {type(problem).__qualname__}>"
    return f"{earlier}{here}"[-TRACEBACK_LIMIT:]


def _without_house(trace: types.TracebackType | None) -> types.TracebackType | None:
    """Leave out how a program of the peer came to what it called: those lines are the same each time."""
    inner = trace
    while inner is not None and inner.tb_frame.f_code.co_filename.endswith(_HOUSE):
        inner = inner.tb_next
    return inner if inner is not None else trace


_HOUSE = tuple(f"rpyc_gateway{slash}{room}.py" for slash in "/\\" for room in ("program", "calls"))
"""The rooms that call the objects of this process for a peer."""


def _without_notes(report: traceback.TracebackException) -> None:
    report.__notes__ = []  # they travel by themselves
    for member in getattr(report, "exceptions", None) or ():
        _without_notes(member)


# -- reading ------------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """What a peer says of an exception. `original` is the receiver's own exception that comes home, what is held of it, or None."""

    kind: type[Exception]
    name: str
    args: tuple[object, ...]
    attributes: tuple[tuple[str, object], ...]
    notes: list[str]
    cause: BaseException | None
    context: BaseException | None
    suppress: bool
    children: list[BaseException] | None
    trace: str
    text: str
    path: tuple[str, ...]
    original: object


def read_exception(
    structure: Any, reader: Reader, way: tuple[str, ...] = (), depth: int = 0, *, kinds: Kinds | None = None
) -> BaseException:
    """The exception that a received structure describes, with the remote traceback attached as a note.

    `way` are the nodes it came through, its sender first. One of ours that comes home is itself. Raises ProtocolError.
    """
    return build(read_parts(structure, reader, way, depth, kinds=kinds), depth)


def read_parts(
    structure: Any, reader: Reader, way: tuple[str, ...] = (), depth: int = 0, *, kinds: Kinds | None = None
) -> Parts:
    """What a received structure says, its causes, contexts and children rebuilt. Raises ProtocolError."""
    if type(structure) is not list or len(structure) < 11 or depth > DEPTH:
        raise ProtocolError("an exception cannot be read")
    kinds = kinds or Kinds()
    names, arguments, attributes, notes, cause, context, suppress, children, trace, text, path = structure[:11]
    original = reader.value(structure[11]) if len(structure) > 11 else None

    def read(other: Any) -> BaseException:
        return read_exception(other, reader, way, depth + 1, kinds=kinds)

    try:
        kind, name = kinds.find(names)
        because = None if cause is None else read(cause)
        return Parts(
            kind,
            name,
            tuple(reader.value(argument) for argument in arguments),
            tuple((str(name), reader.value(value)) for name, value in attributes),
            [str(note) for note in notes],
            because,
            because if context is True else None if context is None else read(context),
            bool(suppress),
            None if children is None else list(map(read, children)),
            str(trace),
            str(text),
            (*(str(node) for node in path), *way[1:]),
            original,
        )
    except (TypeError, ValueError, IndexError) as problem:
        raise ProtocolError(f"an exception cannot be read: {problem}") from problem


def build(parts: Parts, depth: int = 0) -> BaseException:
    """The exception that parts describe. Raises ProtocolError."""
    original: Any = parts.original
    # Not SystemExit and its like: when they end this process is not for a peer to say.
    if issubclass(type(original), Exception):
        return _welcome(original, parts, depth)
    try:
        error = construct(parts.kind, parts.name, parts.args, parts.children, parts.text)
    except (TypeError, ValueError) as problem:
        raise ProtocolError(f"an exception cannot be read: {problem}") from problem
    fill(error, parts, depth)
    if type(parts.original) is Way:
        own(error)[_HOME] = parts.original
    return error


def fill(error: BaseException, parts: Parts, depth: int = 0) -> None:
    """Give an exception what its original says; the outermost one has its remote traceback as a note."""
    for name, value in parts.attributes:
        keep(error, name, value)
    notes = [*parts.notes, *_note(parts)] if depth == 0 else parts.notes
    own(error).update({_TRACEBACK: parts.trace, _PATH: parts.path, "__notes__": notes, TEXT: parts.text})
    set_field(error, "__cause__", parts.cause)
    set_field(error, "__context__", parts.context)
    set_field(error, "__suppress_context__", parts.suppress)


def _note(parts: Parts) -> list[str]:
    if not parts.trace:
        return []  # it was never raised
    way = parts.path
    if len(way) > WAY:
        way = (*way[: WAY - 2], f"... {len(way) - WAY + 1} more ...", way[-1])
    return [f"{_NOTE} ({' -> '.join(way)}) ---\n{parts.trace}".rstrip()]


def _welcome(error: BaseException, parts: Parts, depth: int) -> BaseException:
    """One of ours came home: it is told what it went through, and keeps all else."""
    attributes = own(error)
    attributes.update({_TRACEBACK: parts.trace, _PATH: parts.path})
    if depth:
        return error
    notes = attributes.get("__notes__", [])
    if type(notes) is list:
        attributes["__notes__"] = [
            note for note in notes if not (type(note) is str and note.startswith(_NOTE))
        ] + _note(parts)
    for name, other in (("__cause__", parts.cause), ("__context__", parts.context)):
        if other is not None and other is not error and field(error, name) is None:
            suppress = field(error, "__suppress_context__")
            set_field(error, name, other)
            set_field(error, "__suppress_context__", suppress or (parts.suppress and name == "__cause__"))
    return error
