"""Frame boundaries: fragmentation is never seen, and what is no frame is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.proto.frames import HELLO_FRAME, MAGIC, Frame, FrameType, encode_frame
from rpyc_gateway.proto.framing import LARGE, Framer, gather

HELLO = encode_frame(FrameType.HELLO, MAGIC, b"hello")
payloads = st.binary(max_size=300)
some_frames = st.lists(st.tuples(st.integers(2, 15), st.integers(0, 255), st.integers(0, 2**32 - 1), payloads))
cuts = st.lists(st.integers(1, 40), min_size=1)


def pieces(wire: bytes, sizes: list[int]) -> list[bytes]:
    """The wire cut into pieces of these sizes, over and over."""
    cut = []
    while wire:
        for size in sizes:
            cut.append(wire[:size])
            wire = wire[size:]
    return [piece for piece in cut if piece]


@given(frames=some_frames, sizes=cuts)
def test_frames_survive_any_fragmentation(frames: list[Frame], sizes: list[int]) -> None:
    wire = HELLO + b"".join(encode_frame(kind, label, payload, flags=flags) for kind, flags, label, payload in frames)
    framer = Framer(400, dialler=False)
    heard = [frame for piece in pieces(wire, sizes) for frame in framer.receive(piece)]
    assert heard == [(FrameType.HELLO, 0, MAGIC, b"hello"), *frames]
    assert not framer.error


@given(noise=st.binary(max_size=200), sizes=cuts, dialler=st.booleans(), begun=st.booleans())
def test_noise_is_read_the_same_in_any_fragmentation(
    *, noise: bytes, sizes: list[int], dialler: bool, begun: bool
) -> None:
    wire = (HELLO if begun else b"") + noise
    whole, cut = Framer(256, dialler=dialler), Framer(256, dialler=dialler)
    heard = whole.receive(wire)
    assert [frame for piece in pieces(wire, sizes) for frame in cut.receive(piece)] == heard
    assert cut.error == whole.error
    assert bool(cut.stranger) == bool(whole.stranger)


def test_frames_before_a_frame_that_is_too_long_are_still_heard() -> None:
    framer = Framer(256, dialler=False)
    good = encode_frame(FrameType.DATA, 1, b"x" * 256)
    bad = encode_frame(FrameType.DATA, 1, b"x" * 257)
    heard = framer.receive(HELLO + good + bad + good)
    assert [len(payload) for *_, payload in heard] == [5, 256]
    assert framer.error == "a frame of 257 bytes exceeds the limit of 256"
    assert framer.receive(good) == []


def test_a_long_frame_is_refused_by_its_header_alone() -> None:
    framer = Framer(256, dialler=False)
    framer.receive(HELLO)
    framer.receive(encode_frame(FrameType.DATA, 1, b"x" * 257)[:8])
    assert framer.error


def test_until_hello_is_through_frames_are_short_and_afterwards_as_agreed() -> None:
    early = Framer(60_000, dialler=False)
    early.receive(encode_frame(FrameType.HELLO, MAGIC, b"h" * (HELLO_FRAME + 1))[:8])
    assert "4097" in early.error
    late = Framer(60_000, dialler=False)
    assert len(late.receive(HELLO + encode_frame(FrameType.DATA, 1, b"x" * 60_000))) == 2


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", encode_frame(FrameType.HELLO, 7), encode_frame(FrameType.ERROR, 0)]
)
def test_a_listener_knows_a_stranger_by_the_first_eight_bytes(first: bytes) -> None:
    framer = Framer(256, dialler=False)
    assert framer.receive(first[:7]) == []
    assert not framer.error
    assert framer.receive(first[7:]) == []
    assert framer.stranger == first


def test_a_dialler_may_be_answered_with_an_error_at_once() -> None:
    framer = Framer(256, dialler=True)
    assert framer.receive(encode_frame(FrameType.ERROR, 0, b"no")) == [(FrameType.ERROR, 0, 0, b"no")]
    assert not framer.error


@given(st.lists(st.sampled_from((0, 1, 7, LARGE - 1, LARGE, LARGE + 1))))
def test_what_is_short_goes_together_and_what_is_long_is_not_copied(sizes: list[int]) -> None:
    pieces = [bytes([at % 256]) * size for at, size in enumerate(sizes)]
    buffers = gather(pieces)
    assert b"".join(buffers) == b"".join(pieces)
    long = [piece for piece in pieces if len(piece) >= LARGE]
    assert all(any(buffer is piece for buffer in buffers) for piece in long)
    assert len(buffers) <= 2 * len(long) + 1
