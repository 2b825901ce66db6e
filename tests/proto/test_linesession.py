"""A session with a board, which does not read while it works: its front is patient, repeats little, and ends lines that were damaged."""

from __future__ import annotations

from math import inf

from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineevents import Lost
from rpyc_gateway.proto.lineframes import Greeting

HELLO = Greeting(nonce=b"life", buffer=240, mtu=240, window=8, delay=50)


def in_session() -> tuple[Line, Line]:
    front = Line(Greeting(nonce=b"host"), dialler=True, now=0.0, patience=inf)
    board = Line(HELLO, dialler=False, now=0.0)
    for _ in range(3):
        board.receive_data(front.data_to_send(0.0), 0.0)
        front.receive_data(board.data_to_send(0.0), 0.0)
    front.events()
    front.send(b"a call")
    assert b"a call" in front.data_to_send(0.0)
    return front, board


def sent(front: Line, until: float) -> list[tuple[float, bytes]]:
    """What it sends until then to somebody who says nothing, and when."""
    found = []
    while (at := front.deadline()) is not None and at <= until:
        front.handle_timeout(at)
        data = front.data_to_send(at)
        if data:
            found.append((at, data))
    return found


def test_a_board_may_work_for_a_day_and_gets_few_bytes_meanwhile() -> None:
    front, _ = in_session()
    repeated = sent(front, 86400.0)
    assert sum(len(data) for _, data in repeated) <= 500
    assert not any(isinstance(event, Lost) for event in front.events())


def test_the_end_of_a_line_is_sent_alone_and_then_less_and_less_often() -> None:
    front, board = in_session()
    front.receive_data(board.data_to_send(0.0), 0.0)
    board.receive_data(front.data_to_send(0.0), 0.0)
    ends = [at for at, data in sent(front, 1.0) if data == b"\n"]
    assert ends
    assert all(data == b"\n" or b"a call" in data for _, data in sent(front, 10.0))


def test_a_frame_ends_the_pause_between_two_attempts() -> None:
    front, board = in_session()
    sent(front, 60.0)
    board.send_datagram(b"I am here")
    front.receive_data(board.data_to_send(60.0), 60.0)
    assert (front.deadline() or inf) < 61.0


def test_a_node_is_lost_when_it_is_silent() -> None:
    front = Line(Greeting(nonce=b"host"), dialler=True, now=0.0)
    board = Line(HELLO, dialler=False, now=0.0)
    for _ in range(3):
        board.receive_data(front.data_to_send(0.0), 0.0)
        front.receive_data(board.data_to_send(0.0), 0.0)
    front.send(b"a call")
    front.data_to_send(0.0)
    assert all(data != b"\n" for _, data in sent(front, 30.0))
    assert any(isinstance(event, Lost) for event in front.events())


def test_the_end_of_the_last_line_is_sent_again_though_a_frame_came_that_was_on_its_way_before() -> None:
    """Or a board whose line has lost its end, an ACK perhaps, would read on for ever, and its front would wait for what it cannot say."""
    front = Line(Greeting(nonce=b"host"), dialler=True, now=0.0, patience=inf)
    board = Line(HELLO, dialler=False, now=0.0)
    for _ in range(3):
        board.receive_data(front.data_to_send(0.0), 0.0)
        front.receive_data(board.data_to_send(0.0), 0.0)
    front.send(b"a call")
    board.receive_data(front.data_to_send(0.0), 0.0)
    front.receive_data(board.data_to_send(0.1), 0.1)  # nothing is under way
    board.send(b"an answer")
    front.receive_data(board.data_to_send(0.1), 0.1)
    front.consume(9, 0.1)
    board.send_datagram(b"on its way")
    assert front.data_to_send(0.2)  # an ACK
    front.receive_data(board.data_to_send(0.2), 0.2)
    ends = [at for at, data in sent(front, 60.0) if data == b"\n"]
    assert 0.2 < ends[0] <= 0.4
    assert 2 <= len(ends) <= 5
    assert ends[-1] < 3.0
    assert front.deadline() is None  # and then nothing more
