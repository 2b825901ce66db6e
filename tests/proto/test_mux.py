"""Streams on a link, story by story. The laws that hold for all stories are in test_mux_laws.py."""

from __future__ import annotations

import array

import pytest

from rpyc_gateway.errors import Code, LimitExceeded, LinkLost
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.events import (
    Accepted,
    Drained,
    Established,
    Event,
    Finished,
    Greeted,
    Lost,
    Opened,
    Received,
    Refused,
    Reset,
    Stopped,
    StreamEvent,
)
from rpyc_gateway.proto.frames import (
    CircuitClass,
    Failure,
    Frame,
    FrameType,
    Limits,
    Open,
    Routes,
    encode_frame,
    encode_offset,
)
from rpyc_gateway.proto.framing import Framer
from rpyc_gateway.proto.stream import Stream
from tests.proto.pair import START, Pair, Side, pair, pulled

CALL, NORMAL, BULK = CircuitClass.CALL, CircuitClass.NORMAL, CircuitClass.BULK
NO = Failure(Code.DENIED, "not today", "far")
SHORT = Limits(frame=4096)


def opened(both: Pair, kind: CircuitClass = CALL) -> int:
    """A stream that near has opened and far has taken."""
    label = both.near.mux.open(Open(service="clock"), kind)
    both.exchange()
    both.far.mux.accept(label, ("near", "far"))
    both.exchange()
    both.near.listen()
    both.far.listen()
    return label


def cut(data: bytes) -> list[Frame]:
    framer = Framer(65535, dialler=True)
    framer.receive(encode_frame(FrameType.HELLO, frames.MAGIC))
    return framer.receive(data)


def received(side: Side) -> bytes:
    return b"".join(event.data for event in side.listen() if isinstance(event, Received))


def lost(side: Side) -> Failure:
    """The failure of a link that the peer broke."""
    (event,) = [event for event in side.listen() if isinstance(event, Lost)]
    return event.failure


def without_drained(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Drained)]


# -- a life


def test_a_stream_from_open_to_end() -> None:
    both = pair()
    label = both.near.mux.open(Open(target="far", service="clock"), CALL)
    both.near.mux.send(label, b"what time is it?")
    both.exchange()
    request = Open(target="far", service="clock", credit=65536)
    assert both.far.listen() == [Opened(label, request, CALL), Received(label, b"what time is it?")]
    both.far.mux.accept(label, ("near", "far"))
    both.far.mux.send(label, b"noon")
    both.far.mux.finish(label)
    both.exchange()
    assert both.far.listen() == [Drained(label, 4)]
    assert both.near.listen() == [
        Drained(label, 16),
        Accepted(label, ("near", "far")),
        Received(label, b"noon"),
        Finished(label),
    ]
    assert both.near.mux.statistics().streams == 1
    both.near.mux.finish(label)
    both.exchange()
    assert both.far.listen() == [Finished(label)]
    assert both.near.mux.statistics().streams == both.far.mux.statistics().streams == 0
    assert both.near.mux.over() == both.far.mux.over() == [label]


def test_an_answer_may_be_prepared_before_it_is_given() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CALL)
    both.exchange()
    both.far.mux.send(label, b"welcome")
    both.far.mux.finish(label)
    assert both.pull(both.far) == b""  # nothing overtakes OPENED
    both.far.mux.accept(label, ())
    both.exchange()
    assert both.near.listen() == [Accepted(label, ()), Received(label, b"welcome"), Finished(label)]


def test_a_request_is_refused() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CALL)
    both.near.mux.send(label, b"early")
    both.exchange()
    both.far.mux.reject(label, NO)
    both.near.mux.send(label, b"late")
    both.pull(both.near)
    both.exchange()
    assert both.near.listen()[-1] == Refused(label, NO)
    assert both.far.mux.statistics().late_frames == 1
    assert both.far.mux.up


def test_a_reset_overtakes_what_is_queued_and_is_not_answered() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.send(label, b"x" * 50_000)
    both.near.mux.reset(label, Failure(Code.CANCELLED, "never mind", "near"))
    both.exchange()
    assert both.far.listen() == [Reset(label, Failure(Code.CANCELLED, "never mind", "near"))]
    assert both.near.listen() == []
    assert both.near.mux.queued(label) == 0
    assert both.far.mux.statistics().frames_out == both.near.mux.statistics().frames_in


def test_resets_that_cross_are_nobody_s_fault() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.reset(label, NO)
    both.far.mux.reset(label, NO)
    both.exchange()
    assert both.near.listen() == both.far.listen() == []
    assert both.near.mux.statistics().late_frames == both.far.mux.statistics().late_frames == 1


def test_the_end_waits_for_the_data_before_it() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.send(label, b"x" * 100_000)
    both.near.mux.finish(label)
    both.exchange()
    events = without_drained(both.far.listen())
    assert sum(len(event.data) for event in events if isinstance(event, Received)) == 65536
    assert Finished(label) not in events
    both.far.mux.consume(label, 65536)
    both.exchange()
    assert both.far.listen()[-1] == Finished(label)


def test_a_reader_who_stops() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.send(label, b"x" * 100_000)
    both.pull(both.near, 10_000)
    both.far.mux.stop(label, NO)
    both.far.mux.stop(label, NO)
    assert len(cut(both.pull(both.far))) == 1
    both.deliver(both.far)
    both.deliver(both.near)
    near = both.near.listen()
    assert near[-1] == Stopped(label, NO)
    assert sum(event.count for event in near if isinstance(event, Drained)) == 100_000
    both.near.mux.send(label, b"still talking")
    assert both.near.listen() == [Drained(label, 13)]
    both.near.mux.finish(label)
    both.exchange()
    assert both.far.listen() == [Finished(label)]  # what came after the STOP was not told
    both.far.mux.send(label, b"the other direction lives")
    both.exchange()
    assert received(both.near) == b"the other direction lives"


def test_an_end_that_waits_behind_data_nobody_reads_is_said_at_once() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.send(label, b"x" * 100_000)
    both.near.mux.finish(label)
    both.exchange()
    both.far.mux.stop(label, NO)
    both.exchange()
    assert both.far.listen()[-1] == Finished(label)
    assert both.near.mux.queued(label) == 0


def test_intentions_for_a_stream_that_is_over_do_nothing() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.reset(label, NO)
    both.exchange()
    for side in (both.near, both.far):
        side.mux.send(label, b"x")
        side.mux.finish(label)
        side.mux.stop(label, NO)
        side.mux.reset(label, NO)
        side.mux.reject(label, NO)
        side.mux.accept(label, ())
        side.mux.consume(label, 5)
        assert pulled(side.mux, START) == b""


def test_mistakes_of_this_side_are_value_errors() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.finish(label)
    with pytest.raises(ValueError, match="finished"):
        both.near.mux.send(label, b"x")
    with pytest.raises(ValueError, match="cannot be consumed"):
        both.near.mux.consume(label, 1)


# -- what is sent


def test_a_large_payload_is_cut_for_the_peer_and_never_copied_before() -> None:
    both = pair(far_limits=Limits(frame=1000))
    label = opened(both)
    payload = bytearray(b"a" * 2500)
    both.near.mux.send(label, memoryview(payload))
    payload[:] = b"b" * 2500  # seen on the wire: nobody has copied it yet
    data = pulled(both.near.mux, START)
    assert [len(payload) for *_, payload in cut(data)] == [1000, 1000, 500]
    assert b"a" not in data


def test_a_long_payload_goes_out_as_the_buffer_it_is() -> None:
    both = pair()
    label = opened(both)
    payload = b"x" * 16384
    both.near.mux.send(label, b"before")
    both.near.mux.data_to_send(START)
    both.near.mux.send(label, payload)
    header, body = both.near.mux.data_to_send(START)
    assert len(header) == 8
    assert body is payload


def test_small_pieces_travel_together() -> None:
    both = pair()
    label = opened(both)
    for _ in range(100):
        both.near.mux.send(label, b"0123456789")
    assert len(cut(pulled(both.near.mux, START))) == 1
    assert both.near.listen() == [Drained(label, 1000)]


def test_a_crowd_of_small_pieces_takes_the_room_of_its_bytes() -> None:
    both = pair()
    label = opened(both)
    data = bytes(range(256)) * 200
    view = memoryview(bytes(5_000))
    for at in range(0, len(data), 2):
        both.near.mux.send(label, data[at : at + 2])
        if at % 10_000 == 0:
            both.near.mux.send(label, view)
    queue = both.near.mux._table[label].queue
    assert len(queue) < 600
    assert sum(piece is view for piece in queue) == 6
    assert both.near.mux.queued(label) == len(data) + 6 * len(view)
    keep_busy(both, label)
    both.exchange()
    heard = received(both.far)
    assert heard[:2] == data[:2]
    assert heard[2:5_002] == view
    assert heard[5_002:10_004] == data[2:5_004]


def test_a_view_of_something_else_than_bytes() -> None:
    both = pair()
    label = opened(both)
    numbers = array.array("I", range(1000))
    both.near.mux.send(label, memoryview(numbers))
    assert both.near.mux.queued(label) == 4000
    both.exchange()
    assert received(both.far) == numbers.tobytes()


def test_a_muted_stream_drains_in_silence() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.mute(label)
    both.near.mux.send(label, b"x")
    both.exchange()
    assert both.near.listen() == []


def test_a_muted_stream_says_its_end_all_the_same() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.mute(label)
    both.near.mux.send(label, b"x")
    both.near.mux.finish(label)
    both.exchange()
    assert both.far.listen() == [Received(label, b"x"), Finished(label)]


@pytest.mark.parametrize("size", [0, 10, 5_000, 100_000])
def test_what_is_counted_is_what_went_over_the_wire(size: int) -> None:
    both = pair()
    label = opened(both)
    before = both.near.mux.statistics()
    both.near.mux.send(label, bytes(size))
    both.near.mux.finish(label)
    both.near.mux.announce(Routes(withdraw=("gone",)))
    wire = pulled(both.near.mux, START)
    after = both.near.mux.statistics()
    assert after.bytes_out - before.bytes_out == len(wire)
    assert after.frames_out - before.frames_out == len(cut(wire))


# -- long frames


def begun(both: Pair, label: int, length: int, here: int) -> None:
    """A frame of data of this length has begun to arrive at far."""
    both.far.mux.receive_data(encode_frame(FrameType.DATA, label, bytes(length))[: 8 + here], START)


def test_a_long_frame_is_told_as_it_comes() -> None:
    both = pair()
    label = opened(both)
    data = bytes(range(256)) * 80
    wire = encode_frame(FrameType.DATA, label, data)
    heard = []
    for start in range(0, len(wire), 5000):
        both.far.mux.receive_data(wire[start : start + 5000], START)
        heard.append([bytes(event.data) for event in both.far.listen() if isinstance(event, Received)])
    assert [len(b"".join(pieces)) for pieces in heard] == [4992, 5000, 5000, 5000, 488]
    assert b"".join(b"".join(pieces) for pieces in heard) == data
    assert both.far.mux.statistics().frames_in == 1 + both.near.mux.statistics().frames_out


def test_what_waits_for_the_rest_of_its_frame_is_told_with_it() -> None:
    both = pair()
    label = opened(both)
    begun(both, label, 5000, 4095)
    assert both.far.listen() == []
    both.far.mux.receive_data(bytes(2), START)
    assert len(received(both.far)) == 4097
    short = encode_frame(FrameType.DATA, label, bytes(4095))
    both.far.mux.receive_data(bytes(903) + short[:-1], START)
    assert len(received(both.far)) == 903
    both.far.mux.receive_data(bytes(1), START)
    assert len(received(both.far)) == 4095


def test_a_frame_is_measured_by_its_header_before_any_of_it_is_taken() -> None:
    both = pair()
    label = opened(both)
    both.far.mux.receive_data(encode_frame(FrameType.DATA, label, bytes(65535)), START)
    both.far.listen()
    begun(both, label, 5000, 0)
    assert lost(both.far).text == "70535 bytes came on stream 1, 65536 were granted"


def test_early_data_is_measured_by_its_header_too() -> None:
    both = pair(far_limits=Limits(early_stream=10_000, early_link=9_000))
    request = frames.encode_map(FrameType.OPEN, 1, Open(), 4096)
    both.far.mux.receive_data(request + encode_frame(FrameType.DATA, 1, bytes(9_001))[:8], START)
    assert lost(both.far).text == "9001 bytes of early data, the limit is 9000"


def test_a_stream_may_be_accepted_in_the_middle_of_a_frame() -> None:
    both = pair(far_limits=Limits(early_stream=10_000, early_link=10_000))
    both.far.mux.receive_data(frames.encode_map(FrameType.OPEN, 1, Open(), 4096), START)
    begun(both, 1, 10_000, 5_000)
    both.far.mux.accept(1, ())
    both.far.mux.receive_data(bytes(5_000), START)
    assert len(received(both.far)) == 10_000
    both.far.mux.receive_data(frames.encode_map(FrameType.OPEN, 3, Open(), 4096), START)
    begun(both, 3, 10_000, 10_000)  # all of the early room is free again
    assert len(received(both.far)) == 10_000


def test_the_rest_of_a_frame_whose_stream_has_ended_is_nobody_s() -> None:
    both = pair()
    label = opened(both)
    begun(both, label, 10_000, 5_000)
    assert len(received(both.far)) == 5_000
    both.far.mux.reset(label, NO)
    # However unlikely: another stream has got the label before the frame is over.
    both.far.mux.receive_data(bytes(2_000), START)
    both.far.mux._table[label] = Stream(label, CALL, mine=False, allowed=0, granted=65536)
    both.far.mux.receive_data(bytes(3_000), START)
    assert both.far.listen() == []


def test_a_long_frame_that_comes_too_late_is_counted_once() -> None:
    both = pair()
    label = opened(both)
    both.far.mux.reset(label, NO)
    wire = encode_frame(FrameType.DATA, label, bytes(10_000))
    for start in range(0, len(wire), 4_500):
        both.far.mux.receive_data(wire[start : start + 4_500], START)
    assert both.far.listen() == []
    assert both.far.mux.statistics().late_frames == 1


def test_a_view_keeps_no_more_than_four_times_its_bytes() -> None:
    both = pair()
    label = opened(both)
    short, long = bytes(8_000), bytes(20_000)
    wire = b"".join(encode_frame(FrameType.DATA, label, data) for data in (short, long, short, short))
    both.far.mux.receive_data(wire, START)
    assert [type(event.data) for event in both.far.listen() if isinstance(event, Received)] == [
        bytes,
        memoryview,
        bytes,
        bytes,
    ]


def test_who_reads_what_is_wanted_next_reads_whole_frames() -> None:
    both = pair()
    label = opened(both)
    wire = encode_frame(FrameType.DATA, label, bytes(10)) + encode_frame(FrameType.DATA, label, bytes(20_000)) * 3
    wire += encode_frame(FrameType.DATA, label, bytes(100)) + bytes(4)
    assert both.far.mux.wanted == 65536
    both.far.mux.receive_data(wire[:5_000], START)
    assert both.far.mux.wanted == 18 + 20_008 - 5_000
    both.far.mux.receive_data(wire[5_000:20_026], START)
    assert both.far.mux.wanted == 65536
    both.far.listen()
    both.far.mux.receive_data(wire[20_026:60_100], START)
    assert [len(event.data) for event in both.far.listen() if isinstance(event, Received)] == [20_000, 20_000]
    assert both.far.mux.wanted == 65536  # of what is short, and of headers, many come with one read
    both.far.mux.receive_data(wire[60_100:], START)
    assert both.far.mux.wanted == 65536


def test_nothing_is_cut_in_two_to_fill_a_frame_up() -> None:
    both = pair()
    label = opened(both)
    for size in (20, 30_000, 10, 50_000, 70_000, 100):
        both.near.mux.send(label, bytes(size))
    keep_busy(both, label)
    sizes = [len(payload) for *_, payload in cut(b"".join(both.near.mux.data_to_send(START, 150_000)))]
    assert sizes == [30_030, 50_000, 65_528, 4_572]


def test_a_gateway_forwards_a_long_frame_before_it_is_through() -> None:
    one, two = pair(), pair()
    label, onward = opened(one), opened(two)
    begun(one, label, 60_000, 30_000)
    for event in one.far.listen():
        assert isinstance(event, Received)
        two.near.mux.send(onward, event.data)
    two.exchange()
    assert len(received(two.far)) == 30_000
    assert two.near.listen() == [Drained(onward, 30_000)]


# -- early data


def test_early_data_stops_at_the_peer_s_limit_per_stream() -> None:
    both = pair(far_limits=Limits(early_stream=100))
    label = both.near.mux.open(Open(), CALL)
    both.near.mux.send(label, b"x" * 300)
    both.near.mux.finish(label)
    both.exchange()
    assert received(both.far) == b"x" * 100
    assert both.near.mux.queued(label) == 200
    both.far.mux.accept(label, ())
    both.exchange()
    assert received(both.far) == b"x" * 200


def test_early_data_stops_at_the_peer_s_limit_per_link() -> None:
    both = pair(far_limits=Limits(early_stream=100, early_link=150))
    one, two, three = (both.near.mux.open(Open(), CALL) for _ in range(3))
    for label in (one, two, three):
        both.near.mux.send(label, b"x" * 100)
    both.exchange()
    assert len(received(both.far)) == 150
    both.far.mux.reject(one, NO)
    both.exchange()
    assert len(received(both.far)) == 100
    both.far.mux.accept(two, ())
    both.exchange()
    assert len(received(both.far)) == 50
    assert both.far.mux.up


def test_a_peer_that_sends_too_much_early_data_loses_the_link() -> None:
    request = frames.encode_map(FrameType.OPEN, 3, Open(), 4096)
    both = pair(far_limits=Limits(early_stream=100, early_link=300))
    both.far.mux.receive_data(request + encode_frame(FrameType.DATA, 3, b"x" * 101), START)
    assert lost(both.far).text == "101 bytes came on stream 3, 100 were granted"
    both = pair(far_limits=Limits(early_stream=200, early_link=300))
    second = frames.encode_map(FrameType.OPEN, 5, Open(), 4096)
    data = [encode_frame(FrameType.DATA, label, b"x" * 200) for label in (3, 5)]
    both.far.mux.receive_data(request + second + b"".join(data), START)
    assert lost(both.far).text == "400 bytes of early data, the limit is 300"


# -- earlier still: behind the dialler's HELLO


def test_a_dialler_opens_its_first_stream_with_its_hello_and_is_answered_in_one_flight() -> None:
    both = Pair(far_limits=Limits(early_stream=0, early_link=0))
    label = both.near.mux.open(Open(service="clock"), CALL)
    both.near.mux.send(label, b"x" * 256)
    both.pull(both.near)
    both.deliver(both.far)
    greeted, established, *rest = both.far.listen()
    assert (type(greeted), type(established)) == (Greeted, Established)
    assert rest == [Opened(1, Open(service="clock", credit=65536), CALL), Received(1, b"x" * 256)]
    both.far.mux.accept(label, ("near", "far"))
    both.far.mux.send(label, b"noon")
    both.pull(both.far)
    both.deliver(both.near)
    assert both.near.listen()[-2:] == [Accepted(label, ("near", "far")), Received(label, b"noon")]


def test_before_the_peer_has_said_hello_only_a_little_is_sent() -> None:
    both = Pair()
    label = both.near.mux.open(Open(), CALL)
    both.near.mux.send(label, b"x" * 5000)
    both.pull(both.near)
    both.deliver(both.far)
    assert received(both.far) == b"x" * 256
    both.exchange()
    assert received(both.far) == b"x" * (4096 - 256)  # its limits are known now
    both.far.mux.accept(label, ())
    both.exchange()
    assert received(both.far) == b"x" * (5000 - 4096)


def test_only_the_dialler_opens_before_hello_and_only_one_stream_in_a_small_frame() -> None:
    both = Pair()
    with pytest.raises(LinkLost, match="waiting for the peer's HELLO"):
        both.far.mux.open(Open(), CALL)
    with pytest.raises(LimitExceeded, match="the peer takes 256"):
        both.near.mux.open(Open(service="s" * 300), CALL)
    both.near.mux.open(Open(), CALL)
    with pytest.raises(LimitExceeded, match="one stream may be opened before the peer has said HELLO"):
        both.near.mux.open(Open(), CALL)
    both.exchange()
    assert both.near.mux.open(Open(), CALL) == 3


def test_a_stream_that_came_before_a_refusal_is_lost_with_the_link() -> None:
    both = Pair()
    label = both.near.mux.open(Open(), CALL)
    both.pull(both.near)
    both.far.mux.receive_data(both.far.coming, START)
    both.far.mux.refuse(NO)
    both.pull(both.far)
    both.deliver(both.near)
    reset, gone = both.near.listen()
    assert isinstance(reset, Reset)
    assert reset.label == label
    assert gone == Lost(NO)
    assert not [event for event in both.far.listen() if isinstance(event, Opened)]


# -- credit


def test_credit_is_renewed_when_half_of_it_is_used_up() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.send(label, b"x" * 40_000)
    both.exchange()
    both.far.mux.consume(label, 32_767)
    assert pulled(both.far.mux, START) == b""
    both.far.mux.consume(label, 1)
    ping, credit = cut(pulled(both.far.mux, START))
    assert ping[0] == FrameType.PING  # a listener that is sent much wants to know how long a round trip takes
    assert credit == (FrameType.CREDIT, 0, label, (32_768 + 65_536).to_bytes(8, "big"))


def test_a_little_is_cut_where_the_credit_ends() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.send(label, bytes(65_530))
    both.exchange()
    both.near.mux.send(label, b"0123456789")
    both.exchange()
    assert received(both.far)[-6:] == b"012345"
    assert both.near.mux.queued(label) == 4


def test_credit_that_goes_back_is_ignored() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.send(label, b"x" * 100_000)
    both.near.mux.receive_data(encode_offset(FrameType.CREDIT, label, 10), START)
    both.exchange()
    assert len(received(both.far)) == 65536
    assert not both.near.mux.ready


def test_data_beyond_the_grant_loses_the_link_before_it_is_stored() -> None:
    both = pair()
    label = opened(both)
    both.far.mux.receive_data(encode_frame(FrameType.DATA, label, b"x" * 16384) * 4, START)
    assert both.far.mux.up
    both.far.mux.receive_data(encode_frame(FrameType.DATA, label, b"x"), START)
    assert both.far.listen()[-2:] == [
        Reset(
            label,
            Failure(
                Code.LINK_LOST, "the link far -> near was lost: 65537 bytes came on stream 1, 65536 were granted", "far"
            ),
        ),
        Lost(Failure(Code.PROTOCOL, "65537 bytes came on stream 1, 65536 were granted", "far")),
    ]


# -- rules of the page


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (encode_frame(FrameType.DATA, 3, b"x"), "DATA for stream 3, which was never opened"),
        (encode_offset(FrameType.CREDIT, 2, 9), "CREDIT for stream 2, which was never opened"),
        (encode_frame(FrameType.DATA, 0, b"x"), "DATA for stream 0, which was never opened"),
        (frames.encode_map(FrameType.OPEN, 1, Open(), 256), "OPEN with label 1, which is in use"),
        (frames.encode_map(FrameType.OPEN, 2, Open(), 256), "OPEN with label 2, which is not the peer's to allot"),
        (frames.encode_map(FrameType.OPEN, 0, Open(), 256), "OPEN with label 0, which is not the peer's to allot"),
        (encode_frame(FrameType.DATA, 1), "DATA without a byte on stream 1"),
        (encode_offset(FrameType.FIN, 1, 7), "FIN after 7 bytes on stream 1, but 0 came"),
        (encode_offset(FrameType.FIN, 1, 0) + encode_frame(FrameType.DATA, 1, b"x"), "DATA after FIN on stream 1"),
        (encode_offset(FrameType.FIN, 1, 0) * 2, "FIN out of place on stream 1"),
        (encode_frame(FrameType.CREDIT, 1, b"123"), "an offset has 8 bytes, not 3"),
        (encode_frame(FrameType.OPENED, 1, b"\x80"), "OPENED out of place on stream 1"),
        (encode_frame(FrameType.REFUSED, 1, b"\x81\xa4code\x00"), "REFUSED out of place on stream 1"),
        (encode_frame(FrameType.PING, 0, b"x"), "PING and PONG have 8 bytes, not 1"),
        (encode_frame(16, 0), "unknown frame type 16"),
    ],
)
def test_a_broken_rule_loses_the_link(wire: bytes, text: str) -> None:
    both = pair()
    opened(both)
    both.far.mux.receive_data(wire, START)
    assert lost(both.far) == Failure(Code.PROTOCOL, text, "far")
    both.pull(both.far)
    both.deliver(both.near)
    assert lost(both.near) == Failure(Code.PROTOCOL, text, "far")


@pytest.mark.parametrize(
    "wire",
    [encode_frame(FrameType.DATA, 1, b"x"), encode_offset(FrameType.CREDIT, 1, 9), encode_offset(FrameType.FIN, 1, 0)],
)
def test_nothing_precedes_opened(wire: bytes) -> None:
    both = pair()
    both.near.mux.open(Open(), CALL)
    both.near.mux.receive_data(wire, START)
    assert lost(both.near).code == Code.PROTOCOL


def test_nothing_follows_an_end_that_came_early() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CALL)
    both.near.mux.finish(label)
    both.exchange()
    both.far.mux.accept(label, ())
    both.far.mux.receive_data(encode_frame(FrameType.DATA, label, b"x"), START)
    assert lost(both.far).text == "DATA after FIN on stream 1"


def test_opened_is_said_once() -> None:
    both = pair()
    label = opened(both)
    both.near.mux.receive_data(encode_frame(FrameType.OPENED, label, b"\x80"), START)
    assert lost(both.near).text == "OPENED out of place on stream 1"


def test_what_comes_with_a_broken_rule_in_front_of_it_is_still_heard() -> None:
    both = pair()
    label = opened(both)
    both.far.mux.receive_data(encode_frame(FrameType.DATA, label, b"last words") + encode_frame(99, 0), START)
    first, *_, last = both.far.listen()
    assert first == Received(label, b"last words")
    assert isinstance(last, Lost)


# -- limits


def test_no_more_streams_than_the_peer_takes() -> None:
    both = pair(far_limits=Limits(streams=2))
    labels = [both.near.mux.open(Open(), CALL) for _ in range(2)]
    with pytest.raises(LimitExceeded, match="2 streams are open, more far does not take"):
        both.near.mux.open(Open(), CALL)
    assert both.far.mux.open(Open(), CALL) == 2  # the other direction counts for itself
    both.exchange()
    both.near.mux.reset(labels[0], NO)
    both.near.mux.open(Open(), CALL)
    both.exchange()
    assert both.far.mux.up


def test_a_peer_that_opens_too_many_is_refused() -> None:
    both = pair(far_limits=Limits(streams=1))
    wire = b"".join(frames.encode_map(FrameType.OPEN, label, Open(), 256) for label in (1, 3))
    both.far.mux.receive_data(wire, START)
    assert len(both.far.listen()) == 1
    ((kind, _, label, payload),) = cut(pulled(both.far.mux, START))
    assert (kind, label) == (FrameType.REFUSED, 3)
    assert frames.decode_failure(payload).code == Code.LIMIT


def test_a_request_the_peer_cannot_take_opens_nothing() -> None:
    both = pair(far_limits=Limits(frame=256))
    with pytest.raises(LimitExceeded, match="the peer takes 256"):
        both.near.mux.open(Open(service="s" * 300), CALL)
    assert both.near.mux.open(Open(), CALL) == 1


def test_a_path_the_peer_cannot_take_is_left_out() -> None:
    both = pair(near_limits=Limits(frame=256))
    label = both.near.mux.open(Open(), CALL)
    both.exchange()
    both.far.mux.accept(label, tuple(letter * 60 for letter in "abcdef"))
    both.exchange()
    assert both.near.listen() == [Accepted(label, ())]


def test_a_peer_that_reads_nothing_gets_no_new_streams() -> None:
    both = pair()

    def flood() -> None:
        for _ in range(4096):
            both.near.mux.reset(both.near.mux.open(Open(service="s" * 1000), CALL), NO)

    with pytest.raises(LimitExceeded, match="far does not read"):
        flood()
    assert both.near.mux.statistics().opened < 1100


# -- labels


def test_each_side_allots_its_own_labels_and_upwards() -> None:
    both = pair()
    assert [both.near.mux.open(Open(), CALL) for _ in range(3)] == [1, 3, 5]
    assert [both.far.mux.open(Open(), CALL) for _ in range(3)] == [2, 4, 6]
    both.near.mux.reset(1, NO)
    both.exchange()
    pulled(both.near.mux, both.now + 60)
    assert both.near.mux.open(Open(), CALL) == 7
    assert not both.near.mux.labels._resting  # nothing is kept of those that have rested


def test_labels_that_have_run_out_are_used_again_when_they_have_rested() -> None:
    both = pair()
    both.near.mux.labels.last = 5
    one, three, five = (both.near.mux.open(Open(), CALL) for _ in range(3))
    with pytest.raises(LimitExceeded, match="no label is free"):
        both.near.mux.open(Open(), CALL)
    both.near.mux.reset(three, NO)
    with pytest.raises(LimitExceeded):
        both.near.mux.open(Open(), CALL)  # the RESET is not even sent
    both.exchange()
    both.now += 0.9
    pulled(both.near.mux, both.now)
    with pytest.raises(LimitExceeded):
        both.near.mux.open(Open(), CALL)  # it rests
    both.now += 0.1
    pulled(both.near.mux, both.now)
    assert both.near.mux.open(Open(), CALL) == three
    both.exchange()
    assert both.far.mux.up
    assert {one, three, five} == {1, 3, 5}


def test_labels_rest_for_two_round_trips() -> None:
    both = Pair()
    both.pull(both.near)
    both.now += 2.0
    both.exchange()
    both.near.mux.labels.last = 1
    both.near.mux.reset(both.near.mux.open(Open(), CALL), NO)
    both.exchange()
    pulled(both.near.mux, both.now + 3.9)
    with pytest.raises(LimitExceeded):
        both.near.mux.open(Open(), CALL)
    pulled(both.near.mux, both.now + 4.0)
    assert both.near.mux.open(Open(), CALL) == 1


# -- turns


def turns(both: Pair, frames_wanted: int) -> list[int]:
    """The labels whose data is sent next, frame by frame."""
    return [cut(pulled(both.near.mux, START, 1))[0][2] for _ in range(frames_wanted)]


def keep_busy(both: Pair, *labels: int) -> None:
    """More to send on these streams than a test will pull, and no credit that could run out."""
    for label in labels:
        both.near.mux.receive_data(encode_offset(FrameType.CREDIT, label, 1 << 40), START)
        both.near.mux.send(label, bytes(100 * 4096))


def test_streams_of_a_class_take_turns() -> None:
    both = pair(far_limits=SHORT)
    one, two, three = (opened(both) for _ in range(3))
    for label in (one, two, three):
        both.near.mux.send(label, bytes(3 * 4096))
    assert turns(both, 6) == [one, two, three, one, two, three]


def test_a_class_goes_before_the_next_but_starves_nobody() -> None:
    both = pair(far_limits=SHORT)
    call, normal, bulk = opened(both, CALL), opened(both, NORMAL), opened(both, BULK)
    keep_busy(both, call, normal, bulk)
    order = turns(both, 48)
    assert order.count(call) == 45
    assert order.count(bulk) == 3
    assert order.count(normal) == 0
    assert [at % 16 for at, label in enumerate(order) if label == bulk] == [15, 15, 15]
    both.near.mux.reset(call, NO)
    pulled(both.near.mux, START, 1)
    order = turns(both, 32)
    assert order.count(normal) == 30
    assert order.count(bulk) == 2


def test_bulk_that_has_had_its_turn_does_not_go_before_a_call() -> None:
    both = pair(far_limits=SHORT)
    call, bulk = opened(both, CALL), opened(both, BULK)
    keep_busy(both, bulk)
    for _ in range(40):
        assert turns(both, 1) == [bulk]
        both.near.mux.send(call, b"small")
        assert turns(both, 1) == [call]


def test_control_goes_first() -> None:
    both = pair()
    bulk = opened(both, BULK)
    keep_busy(both, bulk)
    pulled(both.near.mux, START, 1)
    both.near.mux.receive_data(encode_frame(FrameType.PING, 0, b"01234567"), START)
    label = both.near.mux.open(Open(), CALL)
    both.near.mux.send(label, b"now")
    sent = cut(pulled(both.near.mux, START))
    assert [kind for kind, *_ in sent[:3]] == [FrameType.PONG, FrameType.OPEN, FrameType.DATA]
    assert [label for _, _, label, _ in sent[1:4]] == [label, label, bulk]


def test_the_next_frame_is_chosen_as_late_as_possible() -> None:
    both = pair()
    bulk, call = opened(both, BULK), opened(both)
    keep_busy(both, bulk)
    assert turns(both, 2) == [bulk, bulk]
    both.near.mux.send(call, b"urgent")
    assert turns(both, 2) == [call, bulk]


# -- the end of the link


def test_streams_of_a_peer_that_leaves_since_it_has_started_anew_end_with_that() -> None:
    both = pair()
    label = both.near.mux.open(Open(), CALL)
    both.exchange()
    both.far.mux.leave(Failure(Code.RESTARTED, "the board has started anew", "far"), 0.0)
    both.exchange()
    both.far.mux.handle_timeout(START + 1)
    both.exchange()
    (ended,) = (event for event in both.near.listen() if isinstance(event, Reset))
    assert (ended.label, ended.failure.code) == (label, Code.RESTARTED)


def test_every_stream_ends_once_with_the_link() -> None:
    both = pair()
    waiting = both.near.mux.open(Open(), CALL)
    theirs = both.far.mux.open(Open(), CALL)
    both.exchange()
    busy = opened(both, BULK)
    keep_busy(both, busy)
    pulled(both.near.mux, START)
    both.near.listen()
    both.near.mux.fail(Failure(Code.LINK_LOST, "connection reset by peer", "near"))
    events = both.near.listen()
    text = "the link near -> far was lost: connection reset by peer"
    failure = Failure(Code.LINK_LOST, text, "near")
    assert {event.label for event in events if isinstance(event, StreamEvent)} == {waiting, busy, theirs}
    assert all(event.failure == failure for event in events if isinstance(event, Reset))
    assert len(events) == 4
    assert isinstance(events[-1], Lost)
    assert not both.near.mux.ready
    assert both.near.mux.deadline() is None
    with pytest.raises(LinkLost):
        both.near.mux.open(Open(), CALL)
