"""Exceptions and their classes on their way through a session: raised, as values, and coming home (docs/protocol.md, section 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rpyc_gateway.classes import describe
from rpyc_gateway.errors import LinkLost, SessionClosed
from rpyc_gateway.exception_proxy import exception_proxy
from rpyc_gateway.held import BlockingHandle, Caller, Held, held_by, is_proxy
from rpyc_gateway.program import Face
from rpyc_gateway.proto.facts import ExportDraft, HomeDraft
from rpyc_gateway.proto.kinds import Kinds, StandIn, is_stand_in, passes_for
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.raised import (
    Parts,
    Ticket,
    Way,
    build,
    fill,
    read_exception,
    read_parts,
    remote_path,
    way_home,
    write_exception,
)
from rpyc_gateway.proto.rebuilt import set_field
from rpyc_gateway.proto.values import Described, Reader, Undecided, Writer

__all__ = ["Raisables", "is_raisable"]

_TICKET = ClassInfo(module="rpyc_gateway", name="Ticket", flags=ClassInfo.IDENTITY | ClassInfo.TICKET)


def is_raisable(value: object) -> bool:
    """Whether a value is an exception or a class of exceptions."""
    kind = type(value)
    return issubclass(kind, BaseException) or (issubclass(kind, type) and issubclass(value, BaseException))  # type: ignore[arg-type]


class Raisables:
    """The exceptions of one session. `caller` is whom the proxies ask; `step` takes the turn; `way_back` are the nodes to the peer."""

    def __init__(
        self,
        node: str,
        vat: bytes,
        step: Callable[[], AbstractContextManager[None]],
        way_back: Callable[[], tuple[str, ...]],
    ) -> None:
        self.caller: Caller | None = None
        self._node = node
        self._kinds = Kinds(vat)
        self._step = step
        self._way_back = way_back

    # -- out ----------------------------------------------------------------------------------------------------------

    def reference(self, value: Any) -> object:
        """What stands for an exception, or a class of exceptions, that is a value."""
        if issubclass(type(value), type):
            return self._class_reference(value)
        held = _original(value)
        if held is not None and held.caller is self.caller:
            return HomeDraft(held.number)
        if is_proxy(value):
            draft = ExportDraft(value, held_by(value).info, *held_by(value).identity)
        else:
            draft = ExportDraft(value, describe(value))

        def write(writer: Writer) -> Any:
            return self._write(value, writer, lambda error: None if error is value else self._ticket(error, writer))

        return Described(draft, write)

    def _class_reference(self, kind: type[BaseException]) -> object:
        kind = passes_for(kind)
        if type(kind) is StandIn:
            original: Any = StandIn.original(kind, id(self.caller))  # type: ignore[arg-type]
            if original is not None:
                return HomeDraft(original.held.number)
        return Described(ExportDraft(kind, describe(kind)), lambda _writer: self._kinds.write(kind))

    def raised(self, error: BaseException, writer: Writer) -> Any:
        """What stands for an exception that is raised towards the peer. One of the peer's goes home."""
        return self._write(error, writer, lambda one: self._home(one, writer))

    def raised_in_callback(self, error: BaseException, writer: Writer) -> Any:
        """The same, where it may come home: on its way the peer holds a ticket for it."""
        return self._write(error, writer, lambda one: self._ticket(one, writer))

    def _write(self, error: BaseException, writer: Writer, itself: Callable[[BaseException], Any]) -> Any:
        return write_exception(error, writer, self._node, kinds=self._kinds, itself=itself)

    def _home(self, error: BaseException, writer: Writer) -> Any:
        held = _original(error)
        if held is None or held.caller is not self.caller:
            return None
        return writer.attach(HomeDraft(held.number))

    def _ticket(self, error: BaseException, writer: Writer) -> Any:
        home = self._home(error, writer)
        return home if home is not None else writer.attach(ExportDraft(Ticket(error), _TICKET))

    # -- in -----------------------------------------------------------------------------------------------------------

    def read_raised(self, reader: Reader) -> BaseException:
        """The exception that the peer raised."""
        return read_exception(reader.structure(), reader, self._way_back(), kinds=self._kinds)

    def show(self, held: Held, face: Face, made: dict[int, BaseException]) -> object:
        """What stands for a held exception, class of exceptions or ticket among the references of a message.

        `made` are the exceptions that were made for this message.
        """
        flags = held.info.flags
        if flags & ClassInfo.TICKET:
            return Way(held)
        if flags & ClassInfo.IS_CLASS:
            return Undecided(lambda _reader, description: self._class(held, description))
        if face is Face.BLOCKING:
            return Undecided(lambda reader, description: self._proxy(held, reader, description))
        return Undecided(lambda reader, description: self._copy(held, reader, description, made))

    def _class(self, held: Held, description: Any) -> type[BaseException]:
        kind = self._kinds.find_class(_names(held.info) if description is None else description)
        if is_stand_in(kind):
            StandIn.bind(kind, id(held.caller), _HeldClass(held))  # type: ignore[arg-type]
        return kind

    def _proxy(self, held: Held, reader: Reader, description: Any) -> object:
        live: Any = held.face(BlockingHandle)
        if live is not None:
            return live
        parts = self._parts(held, reader, description)
        proxy = exception_proxy(held, parts)
        with self._step():
            live = held.face(BlockingHandle)
            if live is None:
                held.show(BlockingHandle, proxy)
                return proxy
        if description is not None:  # it was mentioned in its own description, or in another thread
            fill(live, parts)
            set_field(live, "args", parts.args)
        return live

    def _copy(self, held: Held, reader: Reader, description: Any, made: dict[int, BaseException]) -> object:
        """In trio code an exception is an ordinary one that knows its way home: a task that prints it cannot wait for its original."""
        known = made.get(id(held))
        if known is not None:
            return known
        parts = self._parts(held, reader, description)
        return made.setdefault(id(held), build(parts._replace(original=Way(held))))

    def _parts(self, held: Held, reader: Reader, description: Any) -> Parts:
        if description is None:
            description = [_names(held.info), [], [], [], None, None, False, None, "", "", []]
        return read_parts(description, reader, self._way_back(), kinds=self._kinds)


def _original(error: BaseException) -> Any:
    """What is held of the original of an exception: of a proxy, or of one that was rebuilt."""
    return held_by(error) if is_proxy(error) else way_home(error)


def _names(info: ClassInfo) -> list[list[str]]:
    return [[module, name] for module, name in info.mro or ((info.module, info.name),) if (module, name) != _OBJECT]


_OBJECT = ("builtins", "object")


class _HeldClass:
    """A class of exceptions that is held, as its stand-in sees it."""

    __slots__ = ("held",)

    def __init__(self, held: Held) -> None:
        self.held = held

    def get(self, name: str) -> Any:
        """Its attribute. Raises AttributeError where it cannot be asked."""
        try:
            return self.held.caller.ask(self.held.number, ((Verb.GET, 0, name),))
        except RuntimeError as error:
            if remote_path(error):
                raise
            raise AttributeError(f"{name!r} of a remote class: {error}", name=name) from error

    def make(self, args: Sequence[object], kwargs: dict[str, object]) -> Any:
        """An instance of it, made there; NotImplemented where it cannot be asked."""
        try:
            return self.held.caller.ask(self.held.number, ((Verb.CALL, 0, args, kwargs),))
        except (RuntimeError, LinkLost, SessionClosed) as error:
            if remote_path(error):
                raise
            return NotImplemented
