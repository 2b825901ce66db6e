"""References of messages: counted when they are sent, looked up when they come, all or nothing."""

from __future__ import annotations

import itertools

import pytest

from rpyc_gateway.errors import EncodeError, LimitExceeded, ProtocolError
from rpyc_gateway.proto.facts import ExportDraft, HomeDraft, Import
from rpyc_gateway.proto.lending import Lending
from rpyc_gateway.proto.messages import ClassInfo, ClassMessage, Ref, RefKind
from rpyc_gateway.proto.tables import Classes, Exports

ADC = ClassInfo(module="lab", name="Adc")
HUGE = ClassInfo(module="lab", name="x" * 2**20)


class Desk:
    """One side's tables, and the class descriptions it has sent."""

    def __init__(self, limit: int = 10) -> None:
        self.exports = Exports("root", itertools.count(1), limit)
        self.classes = Classes()
        self.sent: list[ClassMessage] = []
        self.lending = Lending(self.exports, self.classes, self.describe)

    def describe(self, message: ClassMessage) -> None:
        if message.info == HUGE:
            raise EncodeError("too long")
        self.sent.append(message)


def test_a_class_is_described_before_the_first_object_of_it() -> None:
    desk = Desk()
    refs = desk.lending.lend([ExportDraft("a", ADC), HomeDraft(9), ExportDraft("b", ADC, b"v" * 16, 77)])
    assert desk.sent == [ClassMessage(1, ADC)]
    assert refs == (
        Ref(RefKind.EXPORT, 1, 1),
        Ref(RefKind.HOME, 9),
        Ref(RefKind.EXPORT, 2, 1, b"v" * 16, 77),
    )


@pytest.mark.parametrize(
    ("last", "error"), [(ExportDraft("d", ADC), LimitExceeded), (ExportDraft("b", HUGE), EncodeError)]
)
def test_a_message_that_cannot_be_sent_has_lent_nothing(last: ExportDraft, error: type[Exception]) -> None:
    desk = Desk(limit=3)
    held = desk.lending.lend([ExportDraft("c", ADC)])
    drafts = [ExportDraft("a", ADC), ExportDraft("b", ADC), ExportDraft("c", ADC), last]
    with pytest.raises(error):
        desk.lending.lend(drafts)
    assert len(desk.exports) == 1
    desk.lending.take_back(held)  # "c" was counted once, not twice
    assert len(desk.exports) == 0


def test_references_resolve_to_imports_and_to_what_comes_home() -> None:
    desk = Desk()
    desk.classes.hear(3, ADC)
    desk.exports.introduce("mine")
    refs = [Ref(RefKind.EXPORT, 5, 3), Ref(RefKind.HOME, 1), Ref(RefKind.HOME, 0)]
    assert desk.lending.resolve(refs) == ((Import(5, ADC, None, None), "mine", "root"), None)


@pytest.mark.parametrize(
    "bad",
    [Ref(RefKind.EXPORT, 5, 4), Ref(RefKind.EXPORT, 0, 3), Ref(RefKind.HOME, 2), Ref(RefKind.PROMISE, 1)],
    ids=["a class never described", "an export that is the root", "never given", "later"],
)
def test_a_bad_reference_is_told_of_and_the_rest_resolved(bad: Ref) -> None:
    desk = Desk()
    desk.classes.hear(3, ADC)
    resolved, error = desk.lending.resolve([bad, Ref(RefKind.EXPORT, 5, 3)])
    assert resolved == (Import(5, ADC, None, None),)
    assert isinstance(error, ProtocolError)
