"""The law of the serial line: what arrives is a beginning of what was sent, whatever happens on the way, and all of it once that has stopped."""

from __future__ import annotations

import os
import random
from math import inf

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineevents import Received
from rpyc_gateway.proto.lineframes import ACK, DATA, LONG_MAP, RATE, SHORT_MAP, Encoder, Greeting, session_seed

from .line_pair import Disorder, Pair

CHANCES = st.sampled_from([0.0, 0.0, 0.0003, 0.003, 0.02])


@st.composite
def disorders(draw: st.DrawFn) -> Disorder:
    chances = {kind: draw(CHANCES) for kind in ("flip", "drop", "twice", "invent")}
    return Disorder(draw(st.integers(0, 2**32)), **chances, burst=draw(st.sampled_from([0.0, 0.0, 0.001])))


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    return Pair(
        rate=draw(st.sampled_from([inf, 960, 11520, 92160])),
        latency=draw(st.sampled_from([0.0, 0.001, 0.05])),
        mtu=draw(st.sampled_from([16, 120, 240, 1024])),
        window=draw(st.sampled_from([1, 4, 64])),
        buffer=draw(st.sampled_from([64, 240, 65536])),
        baud=draw(st.sampled_from([0, 0, 230400])),
    )


@settings(deadline=None)
@given(
    pair=pairs(),
    there=disorders(),
    back=disorders(),
    sizes=st.lists(st.integers(0, 700), max_size=6),
    chosen=st.randoms(use_true_random=False),
)
def test_what_arrives_is_a_beginning_of_what_was_sent_and_all_of_it_when_the_noise_ends(
    pair: Pair, there: Disorder, back: Disorder, sizes: list[int], chosen: random.Random
) -> None:
    pair.near.out.noise, pair.far.out.noise = there, back
    sent = {pair.near: b"", pair.far: b""}
    for size in sizes:
        end = chosen.choice([pair.near, pair.far])
        data = chosen.randbytes(size)
        end.line.send(data)
        sent[end] += data
        pair.run(seconds=chosen.choice([0.0, 0.01, 0.5]))
        pair.near.reads = chosen.random() < 0.9
        if pair.near.reads:
            pair.near.line.consume(max(0, pair.near.line.unread), pair.now)
        for one, other in ((pair.near, pair.far), (pair.far, pair.near)):
            assert sent[one].startswith(other.got)
    pair.near.reads = True
    pair.near.line.consume(pair.near.line.unread, pair.now)
    there.active = back.active = False
    pair.near.line.finish()
    pair.far.line.finish()
    assert pair.run(lambda: pair.near.finished and pair.far.finished, seconds=60)
    assert (pair.far.got, pair.near.got) == (sent[pair.near], sent[pair.far])


@settings(deadline=None)
@given(chunks=st.lists(st.binary(max_size=300), max_size=30), dialler=st.booleans())
def test_garbage_before_a_session_is_taken_by_either_side(chunks: list[bytes], dialler: bool) -> None:  # noqa: FBT001
    line = Line(Greeting(nonce=b"near"), dialler=dialler, now=0.0)
    for index, chunk in enumerate(chunks):
        now = index * 0.1
        line.receive_data(chunk, now)
        line.handle_timeout(now)
        assert not any(isinstance(event, Received) for event in line.events())
        assert len(line.data_to_send(now)) < 200


@settings(deadline=None)
@given(bodies=st.lists(st.binary(min_size=1, max_size=40), max_size=60), data=st.binary(max_size=2000))
def test_a_peer_that_says_anything_at_all_in_valid_frames_is_survived(bodies: list[bytes], data: bytes) -> None:
    """Frames with a right checksum and nonsense in them: numbers out of the blue, ACKs of what was never sent, unknown kinds."""
    pair = Pair().meet()
    line = pair.near.line
    encoder = Encoder(SHORT_MAP, dialler=False, seed=session_seed(b"near", b"far!"))
    line.send(data)
    got = 0
    for body in bodies:
        pair.now += 0.05
        line.receive_data(encoder.encode(body), pair.now)
        deadline = line.deadline()
        if deadline is not None and deadline <= pair.now:
            line.handle_timeout(pair.now)
        line.data_to_send(pair.now)
        got += sum(len(event.data) for event in line.events() if isinstance(event, Received))
    assert got <= sum(map(len, bodies))
    assert len(line.data_to_send(pair.now + 20)) < 6000


def soak(seed: int, frames: int) -> tuple[int, int]:
    """One session over a line that is noisy in its own way, until so many frames have gone; says how many, and how many of them were damaged."""
    chosen = random.Random(seed)
    rate = chosen.choice([11520, 92160, 300_000])
    chance = 10 ** chosen.uniform(-4, -1.8)
    pair = Pair(rate=rate, latency=chosen.choice([0.0, 0.002, 0.02]), mtu=chosen.choice([16, 64, 240]))
    pair.meet()
    kinds = chosen.choices(["flip", "drop", "twice", "invent", "burst"], k=2)
    for end in (pair.near, pair.far):
        end.out.noise = Disorder(chosen.getrandbits(32), **dict.fromkeys(kinds, chance / 2))
    sent = {pair.near: bytearray(), pair.far: bytearray()}
    checked = {pair.near: 0, pair.far: 0}
    total = 0
    while total < frames:
        for end in sent:
            if end.line.queued < 2000:
                data = chosen.randbytes(chosen.choice([10, 100, 3000]))
                end.line.send(data)
                sent[end] += data
        pair.run(seconds=0.2)
        for one, other in ((pair.near, pair.far), (pair.far, pair.near)):
            assert one.lost is None
            count = len(other.got)
            assert other.got == sent[one][:count]
            other.got.clear()
            del sent[one][:count]
            checked[one] += count
        total = sum(end.line.statistics().frames_out for end in sent)
    assert all(checked.values())
    return total, sum(end.line.statistics().damaged for end in sent)


def test_a_short_soak_delivers_nothing_wrong() -> None:
    for seed in range(6):
        frames, _ = soak(seed, 3000)
        assert frames >= 3000


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20 if os.environ.get("GW_SOAK") else 1))
def test_a_million_frames_at_random_noise_deliver_nothing_wrong(part: int) -> None:
    """Every byte is checked. In parts, so that one fails early and none takes long; all of them with GW_SOAK=1, in some minutes."""
    frames = damaged = seed = 0
    while frames < 50_000:
        more, harmed = soak(1000 * (part + 1) + seed, 10_000)
        frames, damaged, seed = frames + more, damaged + harmed, seed + 1
    assert damaged > 100


def test_a_repeated_ack_from_the_past_holds_nothing_that_did_not_come() -> None:
    """A bitmap is read from its own `ack` on; one that came twice, late, would else mark pieces as held that the peer never saw."""
    pair = Pair(rate=92160).meet()
    pair.near.line.send(b"x" * 4000)
    old: list[bytes] = []

    def keep(data: bytes) -> bytes:
        old.append(data)
        return data + b"".join(old[-3:])

    pair.far.out.noise = keep
    pair.near.out.noise = Disorder(3, flip=0.005)
    pair.near.line.send(b"y" * 20000)
    assert pair.run(lambda: len(pair.far.got) == 24000, seconds=20)
    assert DATA == 0


class Rogue:
    """A peer that knows the session, and sends whole frames that make no sense."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        choice = self.random.choice
        dialler = choice([True, False])
        rate = choice([inf, 11520.0, 960.0])
        self.line = Line(Greeting(nonce=b"ours", baud=choice([0, 921_600])), dialler=dialler, now=0.0, rate=rate)
        hello = Greeting(
            nonce=b"rogu",
            echo=b"ours",
            wanted=choice([True, False]),
            mtu=choice([16, 240, 65535]),
            window=choice([1, 2, 64]),
            buffer=choice([64, 65536, 2**32 - 1]),
            delay=choice([0, 255]),
            baud=choice([0, 115_200, 2**32 - 1]),
        )
        self.line.receive_data(Encoder(LONG_MAP, dialler=not dialler).encode(hello.encode()), 0.0)
        nonces = (b"ours", b"rogu") if dialler else (b"rogu", b"ours")
        self._encoder = Encoder(SHORT_MAP, dialler=not dialler, seed=session_seed(*nonces))

    def frame(self) -> bytes:
        choice, noise = self.random.choice, self.random.randbytes
        first = choice([DATA, DATA | 0x18, ACK, ACK | 0x08, ACK | 0x30, RATE, 0x8F, 0xC0])
        body = bytes((first,)) + noise(choice([0, 1, 4, 60, 500]))
        if first == RATE:
            body = bytes((RATE, choice(range(5)))) + choice([0, 1, 115_200, 921_600]).to_bytes(4, "big")
        elif first & 0xC0 == DATA:
            body = bytes((first, choice(range(256)), choice(range(256)), choice(range(4)))) + noise(choice([0, 1000]))
        return self._encoder.encode(body)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=11)
def test_a_peer_that_makes_no_sense_takes_no_memory_and_stops_no_clock(seed: int) -> None:
    rogue = Rogue(seed)
    line, chance, now = rogue.line, rogue.random, 0.0
    for _ in range(200):
        act = chance.choice([line.finish] + 5 * [lambda: line.send(bytes(3000))] + 30 * [None])
        if act:
            act()
        else:
            line.receive_data(rogue.frame(), now)
        line.consume(chance.choice([0, line.unread]), now)
        due = line.deadline()
        now = due if due is not None and due > now and chance.random() < 0.6 else now + chance.random() / 5
        steps = 0
        while (due := line.deadline()) is not None and due <= now:
            line.handle_timeout(now)
            line.data_to_send(now)
            steps += 1
            assert steps < 50, "time does not go on: who drives it is busy for nothing"
        line.events()
        assert line.unread <= 65536 + 64 * line.hello.mtu
