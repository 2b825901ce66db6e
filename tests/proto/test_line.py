"""A serial line from end to end, as stories: two ends, a wire with a clock of its own, and what goes wrong on it."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import pytest

from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineevents import Cause, Datagram, Established, Finished, Lost, Printed, RateChanged, Received
from rpyc_gateway.proto.lineframes import (
    ACK,
    DATA,
    NAK,
    SHORT_MAP,
    Encoder,
    Frame,
    Greeting,
    Lines,
    session_seed,
)
from rpyc_gateway.proto.linesession import SILENCE

from .line_pair import Disorder, End, Pair, flips

SLOW = 11520  # bytes per second: 115200 baud


def frames(wire: bytes, *, from_dialler: bool) -> Iterator[Frame]:
    """What is in the bytes that one side has sent."""
    lines = Lines(1024, dialler=not from_dialler)
    lines.seed = session_seed(b"near", b"far!")
    return (found for found in lines.receive(wire) if isinstance(found, Frame))


class Tap:
    """Hears what goes one way, and may drop the frames that it is asked to."""

    def __init__(self, *drop: int) -> None:
        self.wire = b""
        self.drop = set(drop)
        self._number = 0
        self._rest = b""

    def __call__(self, data: bytes) -> bytes:
        self.wire += data
        *lines, self._rest = (self._rest + data).split(b"\n")
        out = b""
        for line in lines:
            if line:
                self._number += 1
            if not line or self._number not in self.drop:
                out += line + b"\n"
        return out


# -- the beginning


def test_a_dialler_and_a_listener_are_in_session_after_one_round_trip() -> None:
    pair = Pair(rate=inf, latency=0.5).meet()
    assert pair.now <= 100 + 3 * 0.5
    assert isinstance(pair.near.heard[0], Established)
    assert isinstance(pair.far.heard[0], Established)


def test_what_is_sent_before_there_is_a_session_arrives() -> None:
    pair = Pair()
    pair.near.line.send(b"early ")
    pair.near.line.send(b"bird")
    pair.near.line.finish()
    assert pair.run(lambda: pair.far.finished)
    assert pair.far.got == b"early bird"


def test_a_listener_alone_says_hello_once_and_waits_for_ever() -> None:
    listener = Line(Greeting(nonce=b"far!"), dialler=False, now=0.0)
    assert listener.data_to_send(0.0).startswith(b"\n\x1e")
    assert listener.data_to_send(0.1) == b""
    assert listener.deadline() is None


def test_a_dialler_whom_nobody_answers_says_what_it_has_heard_instead() -> None:
    for noise, said in (
        (b"MicroPython v1.22\r\n>>> ", "it said b'>>> '"),
        (b"login: \r\n", "it said b'login: '"),
        (b"\x00\xff\x80\n" * 3, "only garbage came: is the baud rate right?"),
        (b"\x00\xff\x80", "only garbage came: is the baud rate right?"),
        (b"", "nothing came at all: is it connected, and on?"),
    ):
        dialler = Line(Greeting(nonce=b"near"), dialler=True, now=0.0)
        dialler.receive_data(noise, 1.0)
        dialler.handle_timeout(9.9)
        assert not any(isinstance(event, Lost) for event in dialler.events())
        dialler.handle_timeout(10.0)
        (lost,) = dialler.events()
        assert isinstance(lost, Lost)
        assert lost.cause is Cause.SILENT
        assert said in lost.reason
        assert dialler.deadline() is None


def test_a_peer_of_another_version_is_told_and_named() -> None:
    listener = Line(Greeting(nonce=b"far!"), dialler=False, now=0.0)
    listener.data_to_send(0.0)
    other = bytearray(Greeting(nonce=b"near").encode())
    other[1] = 9
    listener.receive_data(Encoder(b"", dialler=True).encode(bytes(other)), 1.0)
    (lost,) = listener.events()
    assert lost == Lost(
        Cause.REFUSED, "the peer speaks version 9 of the serial line, this side 1: update the older one"
    )
    assert b"\x1e" in listener.data_to_send(1.0)


def test_greetings_survive_noise_that_kills_every_second_one() -> None:
    met = 0
    for seed in range(20):
        pair = Pair(rate=SLOW, noise=flips(0.01, seed)).meet()
        met += pair.now < 102
    assert met >= 18


def test_data_that_came_before_the_last_hello_is_sent_again_at_once() -> None:
    pair = Pair(latency=0.001)
    pair.near.out.noise = Tap(2)  # the HELLO that would tell the listener
    pair.near.line.send(b"x" * 300)
    assert pair.run(lambda: len(pair.far.got) == 300, seconds=0.2)
    assert pair.now - 100 < 0.1  # the timer would take 0.25 s


def test_a_peer_that_was_in_no_session_yet_has_heard_nothing_and_is_told_again() -> None:
    """Its HELLO says so; without that only the timer would know, after 0.25 s, 0.5 s and a second."""
    pair = Pair()
    deaf = pair.near.out.noise = Disorder(drop=1.0)
    pair.run(seconds=0.01)
    hello = Greeting(nonce=b"far!", echo=b"near", **pair.terms).encode()
    pair.near.line.receive_data(Encoder(b"", dialler=False).encode(hello), pair.now)
    pair.near.line.send(b"x" * 300)
    pair.run(seconds=2)
    deaf.active = False
    pair.near.line.receive_data(Encoder(b"", dialler=False).encode(hello), pair.now)
    assert pair.run(lambda: len(pair.far.got) == 300, seconds=0.05)


# -- the stream


def test_a_stream_ends_in_each_direction_by_itself() -> None:
    pair = Pair().meet()
    pair.near.line.send(b"question")
    pair.near.line.finish()
    assert pair.run(lambda: pair.far.finished)
    pair.far.line.send(b"answer")
    pair.far.line.finish()
    pair.run(seconds=5)
    assert (pair.far.got, pair.near.got) == (b"question", b"answer")
    for end in (pair.near, pair.far):
        assert end.finished
        assert end.lost is not None
        assert end.lost.cause is Cause.CLOSED
        assert end.line.deadline() is None


def test_an_end_without_data_is_an_end() -> None:
    pair = Pair().meet()
    pair.near.line.finish()
    assert pair.run(lambda: pair.far.finished)
    assert pair.far.lost is None
    pair.near.line.send(b"too late")
    pair.run(seconds=1)
    assert pair.far.got == b""


def test_a_reset_says_why() -> None:
    pair = Pair().meet()
    pair.near.line.reset("no longer wanted")
    pair.run(seconds=1)
    assert pair.far.lost == Lost(Cause.RESET, "no longer wanted")
    assert pair.near.lost is None


def test_what_is_on_its_way_still_arrives_when_a_peer_resets_after_it() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.line.send(b"x" * 50)
    pair.settle()
    pair.near.line.reset("bye")
    pair.run(seconds=1)
    assert pair.far.got == b"x" * 50


def test_datagrams_come_or_do_not() -> None:
    pair = Pair().meet()
    pair.far.line.send_datagram(b"ping")
    pair.run(seconds=1)
    assert Datagram(b"ping") in pair.near.heard


def test_text_of_the_other_end_is_told_and_hurts_nothing() -> None:
    pair = Pair().meet()
    pair.far.line.send(b"before")
    pair.run(seconds=0.1)
    pair.near.line.receive_data(b"Guru Meditation Error\r\n>>> ", pair.now)
    pair.far.line.send(b"after")
    pair.run(seconds=1)
    assert pair.near.printed == [b"Guru Meditation Error", b">>> "]
    assert pair.near.got == b"beforeafter"
    assert pair.far.line.statistics().retransmissions == 0


# -- losses


def test_nothing_is_sent_twice_on_a_good_line() -> None:
    pair = Pair(rate=SLOW, latency=0.005).meet()
    pair.near.line.send(b"x" * 20000)
    pair.far.line.send(b"y" * 5000)
    assert pair.run(lambda: pair.near.line.settled and pair.far.line.settled)
    assert pair.near.line.statistics().retransmissions == 0
    assert pair.far.line.statistics().retransmissions == 0


def test_as_much_is_sent_again_as_was_damaged() -> None:
    pair = Pair(rate=92160).meet()
    pair.near.out.noise = Disorder(5, flip=0.001)
    pair.near.line.send(b"x" * 200_000)
    assert pair.run(lambda: pair.near.line.settled)
    damaged = pair.far.line.statistics().damaged
    assert damaged > 100
    assert pair.near.line.statistics().retransmissions <= damaged * 1.1


def test_a_frame_that_vanishes_is_known_by_the_next_one_that_comes() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.out.noise = Tap(3)
    pair.near.line.send(b"x" * 1000)
    assert pair.run(lambda: pair.near.line.settled)
    assert pair.near.line.statistics().retransmissions == 1


def test_the_last_frame_is_sent_again_by_the_clock_if_nothing_follows_it() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.out.noise = Tap(1)
    began = pair.now
    pair.near.line.send(b"alone")
    assert pair.run(lambda: pair.near.line.settled)
    assert pair.far.got == b"alone"
    assert 0.2 < pair.now - began < 0.5


def test_the_last_frame_is_sent_again_at_once_if_it_came_damaged() -> None:
    pair = Pair(rate=SLOW).meet()
    noise = pair.near.out.noise = Disorder(flip=0.2)
    began = pair.now
    pair.near.line.send(b"alone")
    pair.run(lambda: pair.far.line.statistics().damaged > 0)
    noise.active = False
    assert pair.run(lambda: pair.near.line.settled)
    assert pair.far.got == b"alone"
    assert pair.now - began < 0.05


def test_the_clock_starts_when_the_last_byte_has_left_not_when_it_was_written() -> None:
    """At 1200 baud a frame of 75 bytes takes 0.6 s, longer than the first timeout."""
    pair = Pair(rate=120).meet()
    pair.near.line.send(b"x" * 500)
    assert pair.run(lambda: pair.near.line.settled)
    assert pair.near.line.statistics().retransmissions == 0


def test_the_peer_is_given_the_time_that_it_takes_to_acknowledge() -> None:
    pair = Pair(rate=92160).meet()
    for _ in range(50):
        pair.near.line.send(b"a small call")
        pair.run(seconds=0.2)
    assert pair.near.line.statistics().retransmissions == 0


def test_the_bitmap_covers_the_window() -> None:
    """Where it did not, what came beyond it was sent again: four times as much as was lost."""
    pair = Pair(rate=92160, latency=0.02).meet()
    pair.near.line.send(b"x" * 2000)
    pair.run(seconds=1)
    tap = pair.near.out.noise = Tap(1)
    pair.near.line.send(b"y" * 30000)
    pair.run(seconds=2)
    assert pair.far.got.endswith(b"y" * 30000)
    assert pair.near.line.statistics().retransmissions == 1
    assert tap.wire


def test_damage_is_said_at_once_and_counted() -> None:
    pair = Pair().meet()
    tap = pair.far.out.noise = Tap()
    pair.far.line.receive_data(b"#\x00damaged\n#\x01damaged, too\n", pair.now)
    pair.settle()
    pair.run(seconds=0.01)
    (ack,) = frames(tap.wire, from_dialler=False)
    assert ack.first == ACK | NAK
    assert ack.payload[:1] == b"\x02"


def test_pieces_are_short_on_a_noisy_line_and_long_again_when_it_is_good() -> None:
    pair = Pair(rate=92160).meet()
    noise = pair.near.out.noise = Disorder(1, flip=0.01)
    pair.near.line.send(b"x" * 30000)
    assert pair.run(lambda: pair.near.line.settled)
    tap = pair.near.out.noise = Tap()
    noise.active = False
    pair.near.line.send(b"x" * 100_000)
    assert pair.run(lambda: pair.near.line.settled)
    sizes = [len(frame.payload) for frame in frames(tap.wire, from_dialler=True) if frame.first & 0xC0 == DATA]
    assert max(sizes[:20]) < 60
    assert max(sizes[-20:]) > 200


def test_a_quick_answer_is_the_acknowledgement() -> None:
    pair = Pair(rate=SLOW).meet()
    tap = pair.far.out.noise = Tap()
    pair.near.line.send(b"f(1)")
    assert pair.run(lambda: bool(pair.far.got))
    pair.far.line.send(b"42")
    pair.run(seconds=0.015)
    assert [frame.first & 0xC0 for frame in frames(tap.wire, from_dialler=False)] == [DATA]


def test_a_call_and_its_answer_take_as_few_bytes_as_were_promised() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.line.send(b"12345")
    pair.run(lambda: bool(pair.far.got))
    pair.far.line.send(b"123")
    pair.run(lambda: bool(pair.near.got))
    for _ in range(3):
        carried = pair.carried
        pair.near.got.clear()
        pair.far.got.clear()
        pair.near.line.send(b"12345")
        pair.run(lambda: bool(pair.far.got))
        pair.far.line.send(b"123")
        pair.run(lambda: bool(pair.near.got))
        assert pair.carried - carried <= 30


# -- what is never too much


def test_no_more_is_given_to_the_kernel_than_it_carries_in_a_moment() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.line.send(b"x" * 5000)
    given = len(pair.near.line.data_to_send(pair.now))
    assert 0 < given < 350
    assert pair.near.line.data_to_send(pair.now) == b""
    assert pair.near.line.data_to_send(pair.now + given / SLOW - 0.007)


def test_no_more_is_under_way_to_a_board_than_its_buffer_holds() -> None:
    pair = Pair(buffer=240, mtu=120).meet()
    tap = pair.near.out.noise = Tap()
    pair.near.line.send(b"x" * 2000)
    out = pair.near.line.data_to_send(pair.now)
    assert len(out) <= 240 + 20
    pair.near.out.give(out, pair.now)
    assert pair.run(lambda: pair.near.line.settled)
    assert tap.wire


def test_who_does_not_read_is_sent_no_more_than_so_much_and_the_rest_when_it_reads_again() -> None:
    pair = Pair().meet()
    pair.far.reads = False
    pair.near.line.send(b"x" * 500_000)
    pair.run(seconds=30)
    waiting = len(pair.far.got)
    assert pair.near.line.statistics().retransmissions == 0
    assert 65536 < waiting < 65536 + 65 * 240
    assert pair.near.lost is None
    pair.far.reads = True
    pair.far.line.consume(waiting, pair.now)
    assert pair.run(lambda: len(pair.far.got) == 500_000)


def test_a_word_that_somebody_reads_again_may_be_lost() -> None:
    pair = Pair().meet()
    pair.far.reads = False
    pair.near.line.send(b"x" * 100_000)
    pair.run(seconds=30)
    silence = pair.far.out.noise = Disorder(drop=1.0)
    pair.far.reads = True
    pair.far.line.consume(len(pair.far.got), pair.now)
    pair.run(seconds=0.001)
    silence.active = False
    assert pair.run(lambda: len(pair.far.got) == 100_000, seconds=5)


def test_a_peer_that_ignores_that_nobody_reads_makes_nobody_keep_more() -> None:
    listener = Pair().meet().far
    seed = session_seed(b"near", b"far!")
    encoder = Encoder(SHORT_MAP, dialler=True, seed=seed)
    listener.reads = False
    got = 0
    for number in range(2000):
        listener.line.receive_data(encoder.encode(bytes((DATA, number & 255, number & 255, 0)) + bytes(240)), 200.0)
        got += sum(len(event.data) for event in listener.line.events() if isinstance(event, Received))
    assert got <= 65536 + 64 * 240


# -- the end of a line


def test_silence_ends_a_line_that_waits_for_something_and_says_so() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.out.noise = Disorder(drop=1.0)
    began = pair.now
    pair.near.line.send(b"anybody?")
    assert pair.run(lambda: pair.near.lost is not None)
    assert pair.near.lost == Lost(Cause.SILENT, "no frame for 10 s, and something is under way")
    assert pair.now - began == pytest.approx(SILENCE, abs=1)
    assert pair.near.line.deadline() is None


def test_an_idle_line_sends_nothing_and_waits_for_nothing() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.line.send(b"x")
    pair.run(seconds=1)
    carried = pair.carried
    pair.run(seconds=3600)
    assert pair.carried == carried
    assert pair.near.line.deadline() is None
    assert pair.far.line.deadline() is None


def test_a_pause_of_nine_seconds_is_survived() -> None:
    pair = Pair(rate=SLOW).meet()
    pause = pair.near.out.noise = Disorder(drop=1.0)
    pair.near.line.send(b"x" * 1000)
    pair.run(seconds=9)
    pause.active = False
    assert pair.run(lambda: len(pair.far.got) == 1000, seconds=9)


def test_a_peer_that_has_started_anew_is_noticed_by_its_hello() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.far.line = Line(Greeting(nonce=b"new!", **pair.terms), dialler=False, now=pair.now, rate=SLOW)
    pair.run(seconds=0.05)
    assert pair.near.lost is not None
    assert pair.near.lost.cause is Cause.RESTARTED
    assert "has started anew" in pair.near.lost.reason


def test_a_listener_that_has_forgotten_everything_says_hello_to_what_looks_like_a_frame() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.far.line = Line(Greeting(nonce=b"new!", **pair.terms), dialler=False, now=pair.now, rate=SLOW)
    pair.far.out.noise = Tap(1)  # its first HELLO is lost
    pair.run(seconds=2)
    assert pair.near.lost is None
    pair.near.line.send(b"are you there?")
    assert pair.run(lambda: pair.near.lost is not None, seconds=1)
    assert pair.near.lost is not None
    assert pair.near.lost.cause is Cause.RESTARTED


def test_a_dialler_that_comes_back_is_another_one_and_nothing_of_the_old_session_is_taken() -> None:
    pair = Pair(rate=SLOW).meet()
    pair.near.line.send(b"old " * 500)
    pair.run(seconds=0.05)
    pair.near = End(
        Line(Greeting(nonce=b"next", **pair.terms), dialler=True, now=pair.now, rate=SLOW),
        pair.near.out,
        pair.near.into,
    )
    pair.run(lambda: pair.far.lost is not None, seconds=3)
    assert pair.far.lost is not None
    assert pair.far.lost.cause is Cause.RESTARTED
    pair.far = End(
        Line(Greeting(nonce=b"agen", **pair.terms), dialler=False, now=pair.now, rate=SLOW), pair.far.out, pair.far.into
    )
    pair.near.line.send(b"new")
    assert pair.run(lambda: bool(pair.far.got), seconds=5)
    assert pair.far.got == b"new"


def test_a_pipe_that_ends_ends_the_line() -> None:
    pair = Pair().meet()
    pair.near.line.receive_eof()
    assert pair.near.line.events() == [Lost(Cause.BROKEN, "the pipe has ended")]
    assert pair.near.line.data_to_send(pair.now) == b""


# -- another baud rate


class Ports:
    """Sets the wire of a pair to what both ports are set to; while they differ all is garbage."""

    def __init__(self, pair: Pair, fastest: float = inf) -> None:
        self.pair = pair
        self.fastest = fastest
        for end in (pair.near, pair.far):
            end.out.noise = self._carry

    def rate(self, end: End) -> int:
        changes = [event.baud for event in end.heard if isinstance(event, RateChanged)]
        return changes[-1] if changes and changes[-1] else 115200

    def _carry(self, data: bytes) -> bytes:
        rates = {self.rate(self.pair.near), self.rate(self.pair.far)}
        return data if len(rates) == 1 and max(rates) <= self.fastest else bytes(byte ^ 0x55 for byte in data)


def test_both_change_to_the_highest_rate_that_both_can_before_any_data() -> None:
    pair = Pair(rate=SLOW, baud=921600)
    ports = Ports(pair)
    pair.near.line.send(b"x" * 1000)
    assert pair.run(lambda: any(isinstance(event, Established) for event in pair.near.heard), seconds=1)
    assert (ports.rate(pair.near), ports.rate(pair.far)) == (921600, 921600)
    assert pair.near.line.rate == pair.far.line.rate == 92160
    assert pair.far.got == b""
    pair.run(seconds=5)
    assert pair.far.got == b"x" * 1000
    assert (ports.rate(pair.near), ports.rate(pair.far)) == (921600, 921600)


def test_a_cable_that_cannot_takes_both_back_to_where_they_were() -> None:
    pair = Pair(rate=SLOW, baud=921600)
    ports = Ports(pair, fastest=500_000)
    pair.near.line.send(b"x" * 1000)
    assert pair.run(lambda: any(isinstance(event, Established) for event in pair.near.heard), seconds=3)
    assert pair.run(lambda: pair.far.got == b"x" * 1000, seconds=5)
    assert (ports.rate(pair.near), ports.rate(pair.far)) == (115200, 115200)
    assert RateChanged(0) in pair.near.heard
    assert RateChanged(0) in pair.far.heard
    assert pair.near.line.rate == pair.far.line.rate == SLOW


def test_a_dialler_that_was_killed_at_the_new_rate_and_calls_at_the_old_one_is_noticed_in_two_seconds() -> None:
    pair = Pair(rate=SLOW, baud=921600)
    Ports(pair)
    pair.run(seconds=1)
    pair.near.line = Line(Greeting(nonce=b"next", **pair.terms), dialler=True, now=pair.now, rate=SLOW)
    pair.near.heard.clear()
    assert pair.run(lambda: pair.far.lost is not None, seconds=3)
    assert pair.far.lost is not None
    assert "only garbage comes at the rate that was agreed" in pair.far.lost.reason


@pytest.mark.parametrize("seed", range(8))
def test_a_change_on_a_noisy_line_ends_with_both_at_one_rate(seed: int) -> None:
    pair = Pair(rate=SLOW, baud=921600)
    ports = Ports(pair)
    noise = Disorder(seed, flip=0.01)
    for end in (pair.near, pair.far):
        end.out.noise = lambda data: noise(ports._carry(data))
    pair.near.line.send(b"x" * 1000)
    assert pair.run(lambda: len(pair.far.got) == 1000, seconds=20)
    assert ports.rate(pair.near) == ports.rate(pair.far)


def test_a_finish_in_one_direction_is_told_once() -> None:
    pair = Pair().meet()
    pair.near.line.finish()
    pair.run(seconds=3)
    assert pair.far.heard.count(Finished()) == 1
    assert Printed(b"") not in pair.far.heard
