"""Session messages: their bytes, any fragmentation, and what is the peer's fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import EncodeError, ProtocolError
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.frames import Failure

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/messages.json").read_text())["messages"]
EXAMPLES = [eval(vector["message"], {**vars(m), "Failure": Failure}) for vector in VECTORS]


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@pytest.mark.parametrize(("vector", "message"), list(zip(VECTORS, EXAMPLES, strict=True)))
def test_each_message_has_its_bytes_and_the_bytes_their_meaning(vector: dict[str, Any], message: m.Message) -> None:
    assert m.encode(message).hex() == vector["hex"]
    assert m.Splitter().receive_data(bytes.fromhex(vector["hex"])) == [message]


@pytest.mark.parametrize("message", EXAMPLES, ids=str)
def test_the_array_that_a_message_is_has_the_same_bytes(message: m.Message) -> None:
    array = (message.__struct_config__.tag, *msgspec.structs.astuple(message))
    assert m.encode(array) == m.encode(message)


def test_the_numbers_of_calls_and_their_outcomes_are_those_of_their_messages() -> None:
    tags = tuple(kind.__struct_config__.tag for kind in (m.Call, m.Answer, m.Raise))
    assert tags == (m.CALL, m.ANSWER, m.RAISE)


def test_the_table_is_complete() -> None:
    rows = ["HELLO", "CALL", "ANSWER", "RAISE", "CANCEL", "RELEASE", "CLASS", "END", "WANT_BULK", "FINISH", "BYE"]
    assert list(dict.fromkeys(vector["row"] for vector in VECTORS)) == rows
    kinds = {ref.kind for message in EXAMPLES for ref in getattr(message, "refs", ())}
    assert kinds == set(m.RefKind)


def test_a_missing_key_has_its_default_and_an_unknown_one_is_ignored() -> None:
    packed = msgspec.msgpack.encode([0, {"vat": b"v" * 16, "colour": "green", "limits": {"questions": 3, "wings": 2}}])
    (hello,) = m.Splitter().receive_data(len(packed).to_bytes(4, "big") + packed)
    assert hello == m.Hello(m.SessionInfo(vat=b"v" * 16, limits=m.SessionLimits(questions=3)))


def test_an_array_may_be_longer_than_its_reader_knows() -> None:
    packed = msgspec.msgpack.encode([4, 9, "from a later version", [1]])
    assert m.Splitter().receive_data(len(packed).to_bytes(4, "big") + packed) == [m.Cancel(9)]


@given(st.lists(st.sampled_from(EXAMPLES), max_size=8), st.lists(st.integers(0, 40), max_size=60))
def test_messages_survive_any_fragmentation(said: list[m.Message], sizes: list[int]) -> None:
    splitter = m.Splitter()
    wire = b"".join(map(m.encode, said))
    heard = [message for piece in cut(wire, sizes) for message in splitter.receive_data(piece)]
    assert heard == said
    assert splitter.pending == 0


def test_part_of_a_message_waits_for_the_rest() -> None:
    splitter = m.Splitter()
    data = m.encode(m.Cancel(1)) + m.encode(m.End(70_000))
    assert splitter.receive_data(data[:10]) == [m.Cancel(1)]
    assert splitter.pending == 3
    assert splitter.receive_data(data[10:]) == [m.End(70_000)]


@given(st.lists(st.binary(max_size=30), max_size=5))
def test_noise_is_a_message_or_a_protocol_error(noise: list[bytes]) -> None:
    splitter = m.Splitter()
    try:
        for piece in noise:
            splitter.receive_data(piece)
    except ProtocolError:
        return
    assert splitter.pending <= sum(map(len, noise))


@given(st.binary(max_size=60), st.integers(0, 11))
def test_noise_in_a_message_is_a_message_or_a_protocol_error(noise: bytes, kind: int) -> None:
    body = bytes([0x90 + 1 + len(noise) % 12, kind]) + noise
    try:
        (message,) = m.Splitter().receive_data(len(body).to_bytes(4, "big") + body)
    except ProtocolError:
        return
    assert m.Splitter().receive_data(m.encode(message)) == [message]


@pytest.mark.parametrize(
    "items",
    [
        [],
        [11, 1],
        ["CALL", 1],
        [4],
        [4, -1],
        [4, 2**32],
        [4, True],
        [1, 1, 0, "text"],
        [1, 1, 0, b"", [[3, 1]]],
        [1, 1, 0, b"", [[0, 1, 1, b"short", 1]]],
        [1, 1, 0, b"", [], [], 0, 0, 0, 256],
        [3, 1, b"", [], [], 65536],
        [5, [1, -1]],
        [0, {"vat": b"short"}],
        [0, {"name": "no vat"}],
        [0, {"vat": b"v" * 16, "version": [1]}],
        [6, 1, {"module": "no name"}],
        [10, "because"],
    ],
    ids=str,
)
def test_a_message_of_the_wrong_shape_is_a_protocol_error(items: list[object]) -> None:
    body = msgspec.msgpack.encode(items)
    with pytest.raises(ProtocolError):
        m.Splitter().receive_data(len(body).to_bytes(4, "big") + body)


def test_nesting_without_end_is_a_protocol_error() -> None:
    body = b"\x93\x04\x09" + b"\x91" * 100_000 + b"\x01"
    with pytest.raises(ProtocolError):
        m.Splitter().receive_data(len(body).to_bytes(4, "big") + body)


def test_a_message_that_is_too_long_is_refused_by_its_length_alone() -> None:
    assert m.Splitter().receive_data(m.MESSAGE_LIMIT.to_bytes(4, "big")) == []
    with pytest.raises(ProtocolError, match="exceeds limit"):
        m.Splitter().receive_data((m.MESSAGE_LIMIT + 1).to_bytes(4, "big"))


def test_a_message_that_would_be_too_long_is_not_written() -> None:
    with pytest.raises(EncodeError, match="exceeds limit"):
        m.encode(m.Answer(1, b"x" * m.MESSAGE_LIMIT))


def test_a_name_that_is_not_text_is_not_written() -> None:
    with pytest.raises(EncodeError):
        m.encode(m.ClassMessage(1, m.ClassInfo(module="lab", name="\ud800")))


def test_a_class_derives_from_itself_and_its_ancestors_and_not_from_a_namesake() -> None:
    base = m.ClassInfo(module="lab", name="Base", mro=(("lab", "Base"), ("builtins", "object")), ids=(3, 0))
    sub = m.ClassInfo(
        module="lab", name="Sub", mro=(("lab", "Sub"), ("lab", "Base"), ("builtins", "object")), ids=(4, 3, 0)
    )
    top = m.ClassInfo(module="builtins", name="object", mro=(("builtins", "object"),))
    twin = msgspec.structs.replace(base, ids=(9, 0))
    assert sub.derives_from(sub)
    assert sub.derives_from(base)
    assert sub.derives_from(top)
    assert top.derives_from(top)
    assert not base.derives_from(sub)
    assert not sub.derives_from(twin)
    assert not msgspec.structs.replace(sub, ids=(4,)).derives_from(base)  # what a peer left out is not so
