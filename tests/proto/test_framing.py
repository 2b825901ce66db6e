"""Frame boundaries: fragmentation is never seen, and what is no frame is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.proto.frames import DATA, HELLO_FRAME, LARGE, MAGIC, Frame, FrameType, encode_frame
from rpyc_gateway.proto.framing import BEGUN, PINNED, REST, Framer, gather

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


def whole(heard: list[Frame]) -> list[Frame]:
    """The frames, whether they came in pieces or not."""
    put_together: list[Frame] = []
    for kind, flags, label, payload in heard:
        if kind == REST:
            put_together[-1] = (*put_together[-1][:3], put_together[-1][3] + bytes(payload))
        else:
            put_together.append((DATA if kind == BEGUN else kind, 0 if kind == BEGUN else flags, label, bytes(payload)))
    return put_together


long_frames = st.lists(
    st.tuples(st.sampled_from((DATA, DATA, 2)), st.integers(0, 3), st.sampled_from((0, 9, LARGE - 1, LARGE, 3 * LARGE)))
)


@given(frames=long_frames, sizes=st.lists(st.integers(1, 3 * LARGE), min_size=1))
def test_long_frames_of_data_come_in_pieces_and_all_others_whole(
    frames: list[tuple[int, int, int]], sizes: list[int]
) -> None:
    sent = [(kind, 0, label, bytes([at % 256]) * size) for at, (kind, label, size) in enumerate(frames)]
    wire = b"".join(encode_frame(kind, label, payload) for kind, _, label, payload in sent)
    framer = Framer(60_000, dialler=False)
    framer.receive(HELLO)
    chunks = pieces(wire, [size + 64 for size in sizes])
    told = [framer.receive(chunk) for chunk in chunks]
    heard = [frame for frames in told for frame in frames]
    assert whole(heard) == sent
    for frames, chunk in zip(told, chunks, strict=True):
        views = [payload for *_, payload in frames if type(payload) is memoryview]
        assert all(len(view) >= LARGE and PINNED * len(view) >= len(chunk) for view in views)
    for kind, flags, _, payload in heard:
        assert kind >= 0 or (kind == BEGUN and flags >= LARGE and payload == b"") or (kind == REST and payload)


def test_a_piece_is_worth_its_while() -> None:
    framer = Framer(60_000, dialler=False)
    framer.receive(HELLO)
    wire = encode_frame(DATA, 1, bytes(2 * LARGE + 1))
    assert framer.receive(wire[:8]) == [(BEGUN, 2 * LARGE + 1, 1, b"")]
    assert framer.receive(wire[8 : 8 + LARGE - 1]) == []
    assert [len(payload) for *_, payload in framer.receive(wire[:2])] == [LARGE - 1, 2]
    assert framer.receive(wire[: LARGE - 1]) == []
    assert [len(payload) for *_, payload in framer.receive(wire[:1])] == [LARGE - 1, 1]  # the end
    assert framer.receive(wire[:8]) == [(BEGUN, 2 * LARGE + 1, 1, b"")]


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
