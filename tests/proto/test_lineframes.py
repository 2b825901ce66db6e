"""Frames of the serial line: what is escaped, what is text, what is damage, and that nothing else is possible."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.proto.lineframes import (
    ACK,
    CTRL,
    DATA,
    DGRAM,
    LONG_MAP,
    OVERHEAD,
    SHORT_MAP,
    TEXT,
    Damage,
    Encoder,
    Frame,
    Greeting,
    Lines,
    Text,
    session_seed,
)

SEED = session_seed(b"near", b"far!")
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "line.json").read_text())


def decoder(*, dialler: bool = False, mtu: int = 240, seed: int | None = SEED) -> Lines:
    lines = Lines(mtu, dialler=dialler)
    lines.seed = seed
    return lines


def bodies() -> st.SearchStrategy[bytes]:
    """Headers and payloads of all types but HELLO."""
    firsts = st.sampled_from([DATA, DATA | 0x18, ACK, ACK | 0x30, CTRL | 1, CTRL | 2, DGRAM])
    return st.builds(lambda first, rest: bytes((first,)) + rest, firsts, st.binary(min_size=3, max_size=240))


@given(body=bodies(), dialler=st.booleans(), escapes=st.sampled_from([LONG_MAP, SHORT_MAP, b"", b"\x01\x02\x03"]))
def test_a_frame_comes_back_and_has_no_byte_in_it_that_it_must_not(body: bytes, dialler: bool, escapes: bytes) -> None:  # noqa: FBT001
    wire = Encoder(escapes, dialler=dialler, seed=SEED).encode(body)
    assert wire[:1] == (b"#" if dialler else b"\x1e")
    assert wire[-1:] == b"\n"
    assert not {*wire[1:-1]} & {*escapes, *b"\n", wire[0]} - {0x7D}
    (frame,) = decoder(dialler=not dialler).receive(wire)
    assert isinstance(frame, Frame)
    assert bytes((frame.first,)) + frame.header + frame.payload == body


@given(
    data=st.binary(max_size=400), frames=st.lists(bodies(), max_size=3), cuts=st.lists(st.integers(1, 40), min_size=1)
)
def test_any_fragmentation_gives_the_same(data: bytes, frames: list[bytes], cuts: list[int]) -> None:
    encode = Encoder(SHORT_MAP, dialler=True, seed=SEED).encode
    stream = data.join(map(encode, frames)) + data + b"\n"
    whole = list(decoder().receive(stream))
    pieces = decoder()
    found: list[object] = []
    at = 0
    for index in range(len(stream)):
        size = cuts[index % len(cuts)]
        found += pieces.receive(stream[at : at + size])
        at += size
    assert found == whole


@given(chunks=st.lists(st.binary(max_size=3000) | st.just(b"a" * 5000) | st.just(b"#\x7d" * 900), max_size=20))
def test_any_bytes_are_something_and_little_is_kept(chunks: list[bytes]) -> None:
    lines = decoder(seed=None)
    for chunk in chunks:
        for found in lines.receive(chunk):
            assert isinstance(found, Text | Damage)
            assert not isinstance(found, Text) or len(found.text) <= TEXT
        assert len(lines.unfinished) <= max(2 * (240 + OVERHEAD), TEXT)


@given(body=bodies(), at=st.integers(1, 250), bit=st.integers(0, 7))
def test_one_wrong_bit_is_never_a_frame(body: bytes, at: int, bit: int) -> None:
    wire = bytearray(Encoder(SHORT_MAP, dialler=True, seed=SEED).encode(body))
    wire[at % len(wire)] ^= 1 << bit
    assert not [found for found in decoder().receive(bytes(wire)) if isinstance(found, Frame)]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b">>> print(1)", [Text(b">>> print(1)")]),
        (b"ets Jun  8 2016 00:22:57\r", [Text(b"ets Jun  8 2016 00:22:57")]),
        ("Temperatur: 21 °C".encode(), [Text("Temperatur: 21 °C".encode())]),
        (b"\x1b[32mgreen\x1b[0m", [Text(b"\x1b[32mgreen\x1b[0m")]),
        (b"\r", []),
        (b"", []),
        (b"\x00\x10abc", [Damage(framed=False)]),
        (b"caf\xe9 au lait", [Damage(framed=False)]),
        (b"#\x00\x01", [Damage(framed=True)]),
        (b"# a comment", [Damage(framed=True)]),
        (b"#", [Damage(framed=True)]),
        (b"#\x7d", [Damage(framed=True)]),  # an escape at the end of a line that was cut: it once stopped everything
        (b"a" * 5000, [Text(b"a" * TEXT)]),
    ],
)
def test_what_is_no_frame_is_text_or_damage(line: bytes, what: list[object]) -> None:
    assert list(decoder().receive(line + b"\n")) == what


def test_text_before_a_frame_in_its_line_is_told_first() -> None:
    wire = Encoder(SHORT_MAP, dialler=True, seed=SEED).encode(b"\x00\x01\x02\x03hello")
    assert list(decoder().receive(b">>> " + wire)) == [Text(b">>> "), Frame(0, b"\x01\x02\x03", b"hello")]


def test_a_frame_whose_beginning_was_cut_does_not_take_the_next_one_with_it() -> None:
    wire = Encoder(SHORT_MAP, dialler=True, seed=SEED).encode(b"\x00\x01\x02\x03hello")
    assert list(decoder().receive(wire[:7] + wire)) == [Damage(framed=True), Frame(0, b"\x01\x02\x03", b"hello")]


def test_after_a_line_that_never_ends_the_next_one_is_read() -> None:
    lines = decoder()
    found = [one for _ in range(100) for one in lines.receive(b"\x00" * 1000)]
    wire = Encoder(SHORT_MAP, dialler=True, seed=SEED).encode(b"\x00\x01\x02\x03hello")
    assert found == [Damage(framed=False)]
    assert list(lines.receive(b"\n" + wire)) == [Frame(0, b"\x01\x02\x03", b"hello")]


def test_a_frame_of_another_session_is_damage_and_so_is_an_echo_of_ours() -> None:
    body = b"\x00\x01\x02\x03hello"
    other = Encoder(SHORT_MAP, dialler=True, seed=session_seed(b"near", b"past")).encode(body)
    echo = Encoder(SHORT_MAP, dialler=False, seed=SEED).encode(body)
    assert list(decoder().receive(other)) == [Damage(framed=True)]
    assert list(decoder().receive(echo)) == [Damage(framed=False)]


def test_a_payload_longer_than_was_agreed_is_damage() -> None:
    wire = Encoder(SHORT_MAP, dialler=True, seed=SEED).encode(b"\x00\x01\x02\x03" + bytes(700))
    assert list(decoder(mtu=64).receive(wire)) == [Damage(framed=True)]


@pytest.mark.parametrize("escapes", [b"\x0a\x4a", b"\x3d", b"c", b"\x03\x43"])
def test_what_cannot_all_be_escaped_is_refused(escapes: bytes) -> None:
    with pytest.raises(ValueError, match="cannot all be escaped"):
        Encoder(escapes, dialler=True)


def test_a_greeting_comes_back() -> None:
    said = Greeting(nonce=b"abcd", echo=b"efgh", wanted=False, mtu=120, window=8, buffer=240, delay=0, baud=921600)
    assert Greeting.decode(said.encode()[1:]) == said
    assert Greeting.decode(said.encode()[1:] + b"what a later version adds") == said


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "version none"),
        (b"\x02" + bytes(30), "speaks version 2 of the serial line, this side 1: update the older one"),
        (b"\x01" + bytes(8), "too short"),
        (Greeting(nonce=b"abcd").encode()[1:-1], "too short"),
        (Greeting(nonce=b"abcd", mtu=15).encode()[1:], "too little to talk"),
        (Greeting(nonce=b"abcd", window=0).encode()[1:], "too little to talk"),
        (Greeting(nonce=b"abcd", window=65).encode()[1:], "too little to talk"),
        (Greeting(nonce=b"abcd", buffer=10).encode()[1:], "too little to talk"),
        (Greeting(nonce=b"abcd", escapes=b"=").encode()[1:], "cannot all be escaped"),
    ],
)
def test_a_greeting_that_nobody_can_keep_to_says_why(payload: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Greeting.decode(payload)


@given(payload=st.binary(max_size=60))
def test_any_greeting_is_read_or_refused(payload: bytes) -> None:
    try:
        greeting = Greeting.decode(payload)
    except ValueError:
        return
    greeting.check()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"])
def test_the_vectors_are_what_they_mean(vector: dict[str, object]) -> None:
    dialler = vector["from"] == "dialler"
    wire = bytes.fromhex(str(vector["hex"]))
    seed = session_seed(bytes.fromhex(str(vector["dialler"])), bytes.fromhex(str(vector["listener"])))
    meaning = {key: bytes.fromhex(str(vector[key])) for key in ("header", "payload")}
    frame = Frame(int(str(vector["first"]), 16), **meaning)
    (found,) = decoder(dialler=not dialler, seed=seed).receive(wire)
    assert found == frame
    escapes = bytes.fromhex(str(vector["escapes"]))
    hello = frame.first == CTRL
    again = Encoder(escapes, dialler=dialler, seed=0 if hello else seed).encode(
        bytes((frame.first,)) + frame.header + frame.payload
    )
    assert again == wire
