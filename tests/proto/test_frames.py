"""Frames <-> bytes: the vectors in both directions, what is refused, what is shortened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rpyc_gateway.errors import LimitExceeded, ProtocolError, Unreachable
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.frames import (
    CircuitClass,
    Failure,
    Frame,
    FrameType,
    GoAway,
    Hello,
    Limits,
    Open,
    Opened,
    Route,
    Routes,
    Stamp,
    valid_name,
)
from rpyc_gateway.proto.framing import Framer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "link.json").read_text())
ROOMY = 65535
STRUCTS: dict[FrameType, Any] = {
    FrameType.HELLO: (Hello, frames.decode_hello),
    FrameType.OPEN: (Open, frames.decode_open),
    FrameType.OPENED: (Opened, frames.decode_opened),
    FrameType.GOAWAY: (GoAway, frames.decode_goaway),
    FrameType.ROUTE: (Routes, frames.decode_routes),
    FrameType.REFUSED: (Failure, frames.decode_failure),
    FrameType.RESET: (Failure, frames.decode_failure),
    FrameType.STOP: (Failure, frames.decode_failure),
    FrameType.ERROR: (Failure, frames.decode_failure),
}
OFFSETS = (FrameType.CREDIT, FrameType.FIN)


def meaning(frame: Frame) -> dict[str, Any]:
    """A frame as JSON can hold it: bytes are hexadecimal."""
    number, flags, label, payload = frame
    kind = FrameType(number)
    value: Any = payload.hex()
    if kind in OFFSETS:
        value = frames.decode_offset(payload)
    elif kind in STRUCTS:
        value = json.loads(msgspec.json.encode(_readable(msgspec.to_builtins(STRUCTS[kind][1](payload)))))
    return {"type": kind.name, "label": label, "flags": flags, "value": value}


def _readable(fields: Any) -> Any:
    for key in ("vat", "token"):
        if isinstance(fields, dict) and key in fields:
            fields[key] = msgspec.convert(fields[key], bytes, strict=False).hex()
    return fields


def encoded(told: dict[str, Any]) -> bytes:
    """The frame that was told by `meaning`."""
    kind, label, value = FrameType[told["type"]], told["label"], told["value"]
    if kind in OFFSETS:
        return frames.encode_offset(kind, label, value)
    if kind not in STRUCTS:
        return frames.encode_frame(kind, label, bytes.fromhex(value))
    fields = {key: bytes.fromhex(item) if key in ("vat", "token") else item for key, item in value.items()}
    struct = msgspec.convert(fields, STRUCTS[kind][0])
    if isinstance(struct, Hello):
        return frames.encode_hello(struct)
    if isinstance(struct, (Failure, GoAway)):
        return frames.encode_failure(kind, label, struct, ROOMY)
    return frames.encode_map(kind, label, struct, ROOMY, flags=told["flags"])


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_vector_means_what_it_says_and_is_said_so(vector: dict[str, Any]) -> None:
    wire = bytes.fromhex(vector["hex"])
    greeting = frames.encode_frame(FrameType.HELLO, frames.MAGIC)
    (frame,) = Framer(ROOMY, dialler=False).receive(wire if wire[0] == FrameType.HELLO else greeting + wire)[-1:]
    assert meaning(frame) == vector["meaning"]
    assert encoded(vector["meaning"]) == wire


def test_every_type_of_frame_has_a_vector() -> None:
    assert {vector["meaning"]["type"] for vector in VECTORS} == set(FrameType.__members__)


def test_a_key_that_is_not_known_is_ignored_and_one_that_is_missing_has_its_default() -> None:
    request = frames.decode_open(msgspec.msgpack.encode({"target": "lab", "colour": "blue"}))
    assert request == Open(target="lab", service="", circuit="call", hops=16, credit=0)


def test_an_array_may_grow() -> None:
    stamp = frames.decode_open(msgspec.msgpack.encode({"origin": [["a", "b", "uid:0", "more"]]})).origin
    assert stamp == (Stamp("a", "b", "uid:0"),)


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (frames.decode_open, {"target": 7}),
        (frames.decode_open, {"target": "no spaces"}),
        (frames.decode_open, {"via": [""]}),
        (frames.decode_open, {"path": ["-leading"]}),
        (frames.decode_open, {"hops": 256}),
        (frames.decode_open, {"credit": -1}),
        (frames.decode_open, ["an", "array"]),
        (frames.decode_hello, {"name": "relay"}),
        (frames.decode_hello, {"name": "relay", "vat": b"short"}),
        (frames.decode_hello, {"name": "", "vat": bytes(16)}),
        (frames.decode_hello, {"name": "a" * 65, "vat": bytes(16)}),
        (frames.decode_hello, {"name": "relay", "vat": bytes(16), "limits": {"frame": 255}}),
        (frames.decode_hello, {"name": "relay", "vat": bytes(16), "limits": {"streams": 0}}),
        (frames.decode_failure, {"code": 65536}),
        (frames.decode_failure, {"text": "no code"}),
        (frames.decode_routes, {"announce": [[["relay"], -1, 0]]}),
    ],
)
def test_what_cannot_be_is_a_protocol_error(decode: Any, said: Any) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        decode(msgspec.msgpack.encode(said))


def test_a_payload_nested_without_end_is_a_protocol_error() -> None:
    bomb = b"\x81\xa5extra\x81\xa1a" + b"\x91" * 16000 + b"\xc0"
    with pytest.raises(ProtocolError):
        frames.decode_open(bomb)


@given(noise=st.binary(max_size=100))
def test_noise_is_read_or_refused_and_nothing_else(noise: bytes) -> None:
    for decode in (frames.decode_version, *(decode for _, decode in STRUCTS.values())):
        for payload in (noise, b"\x81\xa5extra" + noise):
            try:
                decode(payload)
            except ProtocolError:
                continue


words = st.builds(str.__mul__, st.text(st.characters(codec=None), max_size=4), st.integers(0, 1200))


@given(text=words, hop=st.integers(0, 70), limit=st.integers(256, 2000))
@example(text="\udcff", hop=0, limit=256)
@example(text="é" * 1000, hop=64, limit=256)
@example(text="x" * 1001, hop=64, limit=65535)
def test_a_failure_always_fits_and_keeps_its_code(text: str, hop: int, limit: int) -> None:
    wire = frames.encode_failure(FrameType.RESET, 1, Failure(7, text, "h" * hop), limit)
    assert len(wire) <= 8 + limit
    heard = frames.decode_failure(wire[8:])
    assert heard.code == 7
    assert len(heard.text) <= 1000
    assert heard.text or not text
    assert text.encode(errors="replace").decode().startswith(heard.text)


def test_a_request_too_long_for_the_peer_is_refused_here() -> None:
    with pytest.raises(LimitExceeded, match=r"OPEN would need a frame of \d+ bytes; the peer takes 256"):
        frames.encode_map(FrameType.OPEN, 1, Open(service="s" * 300), 256)


def test_names() -> None:
    assert all(map(valid_name, ("a", "Lab-7", "0", "a.b_c-d", "x" * 64)))
    assert not any(map(valid_name, ("", "-a", ".a", "a b", "x" * 65, "ä", "a\n", "a/b")))
    with pytest.raises(ValueError, match="not a node name"):
        Open(target="a b")


def test_a_failure_becomes_its_error() -> None:
    error = Failure(5, "no route to lab-7", "relay").error()
    assert isinstance(error, Unreachable)
    assert error.hop == "relay"
    assert str(Failure(999)) == "code 999"


def test_defaults_are_those_of_the_page() -> None:
    assert Limits() == Limits(frame=65535, streams=4096, early_stream=4096, early_link=262144, routes=4096)
    assert [kind.name for kind in CircuitClass] == ["CONTROL", "CALL", "NORMAL", "BULK"]
    assert Route(("a",), 0, 1) == msgspec.convert([["a"], 0, 1], Route)
