"""One hop: greeting, strangers, signs of life, takeover, going away."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import Code, LinkLost
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.events import Established, Greeted, Leaving, Lost, Opened, Probed, Refused, Reset, Routed
from rpyc_gateway.proto.frames import CircuitClass, Failure, FrameType, Limits, Open, Route, Routes, encode_frame
from rpyc_gateway.proto.framing import Framer
from rpyc_gateway.proto.mux import Mux
from tests.proto.pair import START, Pair, hello, pair, pulled

AWAY = Failure(Code.SHUTDOWN, "restarting", "far")


def listener() -> Mux:
    return Mux(hello("far"), dialler=False, now=START)


def dialler() -> Mux:
    return Mux(hello("near"), dialler=True, now=START)


def said(mux: Mux, now: float = START) -> list[frames.Frame]:
    """The frames a machine wants to send."""
    framer = Framer(65535, dialler=True)
    framer.receive(encode_frame(FrameType.HELLO, frames.MAGIC))
    return framer.receive(pulled(mux, now))


def only_failure(mux: Mux) -> Failure:
    """The failure in a lone ERROR frame."""
    ((kind, _, _, payload),) = said(mux)
    assert kind == FrameType.ERROR
    return frames.decode_failure(payload)


# -- greeting


def test_two_nodes_greet_each_other() -> None:
    both = Pair()
    both.pull(both.near)
    assert pulled(both.far.mux, START) == b""  # a listener does not speak first
    both.exchange()
    assert both.near.listen() == [Greeted(hello("far")), Established()]
    assert both.far.listen() == [Greeted(hello("near")), Established()]
    assert both.near.mux.peer == hello("far")


def test_the_dialler_knows_the_round_trip_from_the_greeting() -> None:
    both = Pair()
    both.pull(both.near)
    both.now += 0.25
    both.exchange()
    assert both.near.mux.rtt == 0.25
    assert both.far.mux.rtt is None


def test_the_listener_refuses_and_says_why() -> None:
    near, far = dialler(), listener()
    far.receive_data(pulled(near, START), START)
    assert far.events() == [Greeted(hello("near"))]
    refusal = Failure(Code.DUPLICATE, "near is here already, from 10.0.0.1", "far")
    far.refuse(refusal)
    assert far.events() == [Lost(refusal)]
    near.receive_data(pulled(far, START), START)
    assert near.events() == [Lost(refusal)]
    assert far.down
    assert near.down
    assert pulled(near, START) == b""


def test_the_dialler_may_refuse_too() -> None:
    near, far = dialler(), listener()
    far.receive_data(pulled(near, START), START)
    far.welcome(START)
    near.receive_data(pulled(far, START), START)
    near.refuse(Failure(Code.DUPLICATE, "this is myself", "near"))
    far.receive_data(pulled(near, START), START)
    assert far.events()[-1] == Lost(Failure(Code.DUPLICATE, "this is myself", "near"))


def test_what_comes_before_the_decision_waits_for_it() -> None:
    near, far = dialler(), listener()
    far.receive_data(pulled(near, START), START)
    far.welcome(START)
    far.open(Open(service="clock"), CircuitClass.CALL)
    far.announce(Routes(withdraw=("gone",)))
    near.receive_data(pulled(far, START), START)
    assert near.events() == [Greeted(hello("far"))]
    near.welcome(START)
    happened = near.events()
    assert [type(event) for event in happened] == [Established, Opened, Routed]


def test_what_comes_before_the_decision_is_bounded() -> None:
    near, far = dialler(), listener()
    far.receive_data(pulled(near, START), START)
    for _ in range(70):
        far.receive_data(encode_frame(FrameType.DATA, 1, b"x" * 16384), START)
    greeted, lost = far.events()
    assert isinstance(greeted, Greeted)
    assert isinstance(lost, Lost)
    assert lost.failure.code == Code.LIMIT
    assert only_failure(far).code == Code.LIMIT


def test_another_major_version_is_told_which_side_is_older() -> None:
    far = listener()
    newer = msgspec.msgpack.encode({"version": [2, 1], "name": {"not": "what it was"}})
    far.receive_data(encode_frame(FrameType.HELLO, frames.MAGIC, newer), START)
    failure = only_failure(far)
    assert failure.code == Code.VERSION
    assert "1.0" in failure.text
    assert "2.1" in failure.text


def test_another_minor_version_is_welcome() -> None:
    far = listener()
    far.receive_data(frames.encode_hello(msgspec.structs.replace(hello("near"), version=(1, 9))), START)
    assert isinstance(far.events()[0], Greeted)


def test_a_second_hello_loses_the_link() -> None:
    both = pair()
    both.far.mux.receive_data(frames.encode_hello(hello("near")), START)
    assert both.far.listen() == [Lost(Failure(Code.PROTOCOL, "a second HELLO", "far"))]


# -- strangers


def test_an_http_caller_is_answered_in_its_own_tongue() -> None:
    far = listener()
    far.receive_data(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", START)
    answer = pulled(far, START)
    head, body = answer.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"rpyc-gateway" in body
    (lost,) = far.events()
    assert isinstance(lost, Lost)
    assert "HTTP" in lost.failure.text


@pytest.mark.parametrize(
    "first", [b"SSH-2.0-OpenSSH_9.9\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"12345678"]
)
def test_another_stranger_gets_an_error(first: bytes) -> None:
    far = listener()
    far.receive_data(first, START)
    failure = only_failure(far)
    assert failure.code == Code.PROTOCOL
    assert repr(first[:8])[2:-1] in failure.text
    assert far.events() == [Lost(failure)]


def test_a_dialler_says_what_it_has_met() -> None:
    near = dialler()
    near.receive_data(b"HTTP/1.1 400 Bad Request\r\n", START)
    (lost,) = near.events()
    assert isinstance(lost, Lost)
    assert "HTTP/1.1 400" in lost.failure.text


def test_a_dialler_quotes_a_message_for_people_and_of_anything_else_just_the_beginning() -> None:
    message = b"Usage: rpyc-gw stdio [OPTIONS]\n\nError: No such option: --nam\n"
    for first, quoted in ((message, repr(message)), (message + b"\x1b", repr(message[:24]))):
        near = dialler()
        near.receive_data(first, START)
        (lost,) = near.events()
        assert isinstance(lost, Lost)
        assert lost.failure.text.endswith(f"it began with {quoted}")


@given(noise=st.lists(st.binary(max_size=300), max_size=5), up=st.booleans(), near=st.booleans())
def test_noise_loses_the_link_or_means_nothing(*, noise: list[bytes], up: bool, near: bool) -> None:
    both = pair() if up else Pair()
    side = both.near if near else both.far
    for chunk in noise:
        side.mux.receive_data(chunk, START)
        pulled(side.mux, START)
    assert [type(event) for event in side.listen()] in ([], [Lost])


@given(
    st.lists(
        st.tuples(st.integers(1, 16), st.integers(0, 255), st.integers(0, 6), st.binary(max_size=40)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 30),
)
def test_frames_with_any_content_lose_the_link_or_mean_something(
    content: list[tuple[int, int, int, bytes]], cut: int
) -> None:
    both = pair()
    label = both.far.mux.open(Open(), CircuitClass.CALL)
    wire = b"".join(encode_frame(kind, at, payload, flags=flags) for kind, flags, at, payload in content)
    for start in range(0, len(wire), cut):
        both.far.mux.receive_data(wire[start : start + cut], START)
        pulled(both.far.mux, START)
    happened = both.far.listen()
    assert sum(isinstance(event, Lost) for event in happened) == both.far.mux.down
    if both.far.mux.down:
        assert isinstance(happened[-1], Lost)
        assert sum(isinstance(event, (Reset, Refused)) and event.label == label for event in happened) == 1


# -- deadlines of the greeting


def test_a_dialler_that_is_not_answered_says_so_and_gives_up() -> None:
    near = dialler()
    pulled(near, START)
    assert near.deadline() == START + 10
    near.handle_timeout(START + 9.9)
    assert not near.down
    near.handle_timeout(START + 10)
    assert only_failure(near).code == Code.TIMEOUT
    assert isinstance(near.events()[-1], Lost)
    assert near.deadline() is None


def test_a_peer_that_has_to_be_started_first_is_given_longer() -> None:
    near = Mux(hello("near"), dialler=True, now=START, patience=60.0)
    pulled(near, START)
    assert near.deadline() == START + 60
    near.handle_timeout(START + 60)
    lost = near.events()[-1]
    assert isinstance(lost, Lost)
    assert "within 60 s" in lost.failure.text


def test_a_listener_that_hears_nothing_leaves_without_a_word() -> None:
    far = listener()
    far.receive_data(encode_frame(FrameType.HELLO, frames.MAGIC, b"half of it")[:12], START + 9)
    assert far.deadline() == START + 10
    far.handle_timeout(START + 10)
    assert pulled(far, START + 10) == b""
    (lost,) = far.events()
    assert isinstance(lost, Lost)
    assert "10 s" in lost.failure.text


def test_a_decision_has_its_own_deadline() -> None:
    far = listener()
    far.receive_data(frames.encode_hello(hello("near")), START + 9)
    assert far.deadline() == START + 19
    far.handle_timeout(START + 19)
    assert only_failure(far).code == Code.TIMEOUT
    far.welcome(START + 20)  # too late, and harmless
    assert far.down


# -- signs of life


@pytest.mark.parametrize(("jitter", "idle"), [(0.0, 15.0), (0.5, 13.5), (1.0, 12.0)])
def test_silence_is_answered_with_a_ping(jitter: float, idle: float) -> None:
    near, far = Mux(hello("near"), dialler=True, now=START, jitter=jitter), listener()
    far.receive_data(pulled(near, START), START)
    far.welcome(START)
    near.receive_data(pulled(far, START), START)
    near.welcome(START)
    assert near.deadline() == START + idle
    near.handle_timeout(START + idle)
    ping = pulled(near, START + idle)
    assert ping[0] == FrameType.PING
    assert near.deadline() == START + idle + 5
    far.receive_data(ping, START + idle)
    near.receive_data(pulled(far, START + idle), START + idle + 1)
    assert near.deadline() == START + idle + 1 + idle
    assert near.rtt == pytest.approx(1 / 8)


def test_a_link_that_stays_silent_is_dead_and_so_are_its_streams() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CircuitClass.CALL)
    both.near.mux.handle_timeout(START + 15)
    both.near.mux.handle_timeout(START + 19.9)
    assert both.near.mux.up
    both.near.mux.handle_timeout(START + 20)
    lost = Failure(Code.LINK_LOST, "no frame for 20 s", "near")
    reset = Failure(Code.LINK_LOST, "the link near -> far was lost: no frame for 20 s", "near")
    assert both.near.listen() == [Reset(label, reset), Lost(lost)]


def test_any_frame_is_a_sign_of_life() -> None:
    both = pair()
    both.near.mux.handle_timeout(START + 15)
    both.now = START + 19
    both.far.mux.announce(Routes(withdraw=("x",)))
    both.exchange()
    both.near.mux.handle_timeout(START + 20)
    assert both.near.mux.up
    assert both.near.mux.deadline() == START + 34


def test_half_a_frame_is_none() -> None:
    both = pair()
    both.near.mux.handle_timeout(START + 15)
    both.near.mux.receive_data(encode_frame(FrameType.PING, 0, bytes(8))[:10], START + 19)
    both.near.mux.handle_timeout(START + 20)
    assert both.near.mux.down


def test_a_piece_of_a_long_frame_is_one() -> None:
    both = pair()
    label = both.far.mux.open(Open(), CircuitClass.CALL)
    both.exchange()
    both.near.mux.accept(label, ())
    both.exchange()
    wire = encode_frame(FrameType.DATA, label, bytes(60_000))
    both.near.mux.receive_data(wire[:10], START + 1)
    both.near.mux.handle_timeout(START + 16)
    both.near.mux.receive_data(wire[10:5_000], START + 19)
    both.near.mux.handle_timeout(START + 21)
    assert both.near.mux.up
    both.near.mux.receive_data(wire[5_000:9_000], START + 22)  # less than 4 KiB
    assert both.near.mux.deadline() == START + 19 + 15


def test_a_machine_that_slept_asks_before_it_gives_up() -> None:
    both = pair()
    both.near.mux.handle_timeout(START + 3600)
    assert both.near.mux.up
    assert both.near.mux.deadline() == START + 3605


def test_a_probe_is_answered_or_the_link_is_dead() -> None:
    both = pair()
    both.near.mux.probe(START, 2.0)
    assert both.near.mux.deadline() == START + 2
    both.exchange()
    assert both.near.listen() == [Probed()]
    both.near.mux.probe(START + 5, 2.0)
    both.near.mux.handle_timeout(START + 7)
    (lost,) = both.near.listen()
    assert lost == Lost(Failure(Code.LINK_LOST, "no answer to a probe", "near"))


def test_a_peer_that_asks_and_never_reads_is_dropped() -> None:
    both = pair()
    pings = encode_frame(FrameType.PING, 0, bytes(8)) * 4000
    for _ in range(100):
        both.far.mux.receive_data(pings, START)
    (lost,) = both.far.listen()
    assert isinstance(lost, Lost)
    assert lost.failure.code == Code.LIMIT


def test_a_deadline_that_is_nearer_is_told() -> None:
    both = pair()
    mux = both.near.mux
    assert mux.hurried  # it is up: another deadline than that of the greeting
    mux.deadline()
    label = mux.open(Open(), CircuitClass.CALL)
    mux.send(label, b"x")
    both.exchange()
    assert not mux.hurried  # whatever is sent and heard, it only moves away
    for nearer in (lambda: mux.probe(START, 2.0), lambda: mux.leave(AWAY, 5.0)):
        nearer()
        assert mux.hurried
        mux.deadline()
        assert not mux.hurried


# -- ends


def test_a_peer_that_closes() -> None:
    both = pair()
    both.near.mux.receive_eof(START)
    assert both.near.listen() == [Lost(Failure(Code.LINK_LOST, "closed by the peer", "near"))]
    early = listener()
    early.receive_eof(START)
    assert early.events() == [Lost(Failure(Code.LINK_LOST, "closed by the peer before it said HELLO", "far"))]


def test_a_transport_that_breaks() -> None:
    both = pair()
    both.near.mux.announce(Routes(withdraw=("x",)))
    both.near.mux.fail(Failure(Code.LINK_LOST, "connection reset by peer", "near"))
    both.near.mux.fail(Failure(Code.LINK_LOST, "once more", "near"))
    both.near.mux.receive_eof(START)
    assert both.near.listen() == [Lost(Failure(Code.LINK_LOST, "connection reset by peer", "near"))]
    assert pulled(both.near.mux, START) == b""
    both.near.mux.receive_data(encode_frame(FrameType.PING, 0, bytes(8)), START)
    assert pulled(both.near.mux, START) == b""


def test_an_error_without_text_and_with_a_code_of_the_future() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CircuitClass.CALL)
    both.near.mux.receive_data(frames.encode_failure(FrameType.ERROR, 0, Failure(4711), 256), START)
    assert both.near.listen() == [
        Reset(label, Failure(Code.LINK_LOST, "the link near -> far was lost: code 4711", "near")),
        Lost(Failure(4711)),
    ]


def test_nothing_is_heard_after_the_last_frame() -> None:
    both = pair()
    both.near.mux.probe(START, 2.0)
    last = frames.encode_failure(FrameType.ERROR, 0, AWAY, 256)
    greeting = frames.encode_hello(hello("far"))
    both.near.mux.receive_data(last + greeting, START)
    assert both.near.listen() == [Probed(), Lost(AWAY)]
    other = pair()
    other.near.mux.probe(START, 2.0)
    other.near.mux.fail(AWAY)
    other.near.mux.receive_data(greeting, START)
    assert other.near.listen() == [Lost(AWAY)]


def test_resuming_is_for_later() -> None:
    both = pair()
    both.far.mux.receive_data(encode_frame(FrameType.RESUME, 0), START)
    assert only_failure(both.far.mux).code == Code.UNSUPPORTED


# -- going away


def test_going_away_with_nothing_open_ends_the_link() -> None:
    both = pair()
    both.far.mux.leave(AWAY, 5.0)
    assert both.far.mux.up  # GOAWAY must go out first
    both.exchange()
    assert both.far.listen() == [Lost(AWAY)]
    assert both.near.listen() == [Leaving(AWAY, 5.0)]
    both.near.mux.receive_eof(START)
    assert both.near.listen() == [Lost(AWAY)]


def test_going_away_waits_for_what_is_open_and_takes_nothing_new() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CircuitClass.CALL)
    both.exchange()
    both.far.mux.accept(label, ())
    both.far.mux.leave(AWAY, 5.0)
    crossing = both.near.mux.open(Open(), CircuitClass.CALL)
    both.exchange()
    assert Refused(crossing, AWAY) in both.near.listen()
    assert both.far.mux.up
    with pytest.raises(LinkLost, match="far takes no new streams: restarting"):
        both.near.mux.open(Open(), CircuitClass.CALL)
    with pytest.raises(LinkLost):
        both.far.mux.open(Open(), CircuitClass.CALL)
    both.near.mux.finish(label)
    both.far.mux.finish(label)
    both.exchange()
    assert both.far.listen()[-1] == Lost(AWAY)


def test_grace_runs_out() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CircuitClass.CALL)
    both.exchange()
    both.far.mux.leave(AWAY, 5.0)
    deadline = both.far.mux.deadline()
    assert deadline is not None
    assert deadline <= START  # the driver must say what time it is
    both.far.mux.handle_timeout(START + 1)
    assert both.far.mux.deadline() == START + 6
    both.now = START + 6
    both.far.mux.handle_timeout(both.now)
    both.exchange()
    far = both.far.listen()
    assert far[-1] == Lost(AWAY)
    assert Reset(label, Failure(Code.LINK_LOST, "the link far -> near was lost: restarting", "far")) in far
    assert both.near.listen()[-1] == Lost(AWAY)


# -- routes


def test_routes_are_told_to_those_who_ask() -> None:
    routes = Routes((Route(("near", "lab"), 1, 7),), ("gone",))
    both = pair()
    both.near.mux.announce(routes)
    both.exchange()
    assert both.far.listen() == [Routed(routes)]
    deaf = Mux(hello("deaf", routes=False), dialler=True, now=START)
    both.far.mux = listener()
    both.far.mux.receive_data(pulled(deaf, START), START)
    both.far.mux.welcome(START)
    pulled(both.far.mux, START)
    both.far.mux.announce(routes)
    assert pulled(both.far.mux, START) == b""


def test_many_routes_travel_in_frames_the_peer_can_take() -> None:
    both = pair(far_limits=Limits(frame=256))
    announce = tuple(Route(("near", f"node-{number}"), 1, number) for number in range(100))
    giant = Route(tuple(f"{letter}" * 60 for letter in "abcdef"), 6, 1)
    withdraw = tuple(f"gone-{number}" for number in range(100))
    both.near.mux.announce(Routes((*announce, giant), withdraw))
    both.exchange()
    heard = both.far.listen()
    assert all(isinstance(event, Routed) for event in heard)
    parts = [event.routes for event in heard if isinstance(event, Routed)]
    assert [name for part in parts for name in part.withdraw] == list(withdraw)
    assert [route for part in parts for route in part.announce] == list(announce)
