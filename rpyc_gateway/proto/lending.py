"""References of messages: what they name here, and what naming an object there changes in the tables (docs/protocol.md, section 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rpyc_gateway.errors import GatewayError, ProtocolError
from rpyc_gateway.proto.facts import ExportDraft, HomeDraft, Import
from rpyc_gateway.proto.messages import ClassMessage, Ref, RefKind
from rpyc_gateway.proto.tables import Classes, Exports

__all__ = ["Lending"]


class Lending:
    """Counts what is lent, and looks up what comes. `describe` sends the description of a class, before its first reference."""

    def __init__(self, exports: Exports, classes: Classes, describe: Callable[[ClassMessage], None]) -> None:
        self._exports = exports
        self._classes = classes
        self._describe = describe

    def lend(self, drafts: Sequence[object]) -> tuple[Ref, ...]:
        """Count the objects of a message that will be sent. All or nothing: raises LimitExceeded, EncodeError."""
        refs: list[Ref] = []
        try:
            for draft in drafts:
                refs.append(self._lend_one(draft))  # noqa: PERF401  # a failure must know what was lent
        except GatewayError:
            self.take_back(refs)
            raise
        return tuple(refs)

    def _lend_one(self, draft: object) -> Ref:
        if type(draft) is HomeDraft:
            return Ref(RefKind.HOME, draft.number)
        assert type(draft) is ExportDraft
        info = draft.info
        cls = self._classes.tell(info, lambda number: self._describe(ClassMessage(number, info)))
        return Ref(RefKind.EXPORT, self._exports.introduce(draft.value), cls, draft.vat, draft.origin)

    def take_back(self, refs: Sequence[Ref]) -> None:
        """The message was not sent after all."""
        for ref in refs:
            if ref.kind is RefKind.EXPORT:
                self._exports.release(ref.number, 1)

    def resolve(self, refs: Sequence[Ref]) -> tuple[tuple[object, ...], ProtocolError | None]:
        """Imports and home objects for the references of a message that came, and what was wrong with the first bad one."""
        resolved: list[object] = []
        error: ProtocolError | None = None
        for ref in refs:
            try:
                resolved.append(self._resolve_one(ref))
            except ProtocolError as reason:
                error = error or reason
        return tuple(resolved), error

    def _resolve_one(self, ref: Ref) -> object:
        if ref.kind is RefKind.EXPORT and ref.number:
            return Import(ref.number, self._classes.heard(ref.cls), ref.vat, ref.origin)
        if ref.kind is RefKind.HOME:
            return self._exports.resolve(ref.number)
        raise ProtocolError(f"a reference of kind {ref.kind.name} to number {ref.number}")
