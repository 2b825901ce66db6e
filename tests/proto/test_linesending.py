"""What is lost and when that is known: one direction of a serial line, fed with acknowledgements by hand. Whole lines are in test_line.py."""

from __future__ import annotations

from rpyc_gateway.proto.lineframes import Greeting
from rpyc_gateway.proto.linesending import Outgoing, Piece

PEER = Greeting(nonce=b"peer")


def sent(*sizes: int, peer: Greeting = PEER) -> Outgoing:
    """So many pieces that have been sent once each, one after another; the last byte leaves at 1.0, 2.0 and so on."""
    outgoing = Outgoing(peer, 240)
    for index, size in enumerate(sizes):
        outgoing.send(bytes(size))
        transmit(outgoing, index + 1.0)
    return outgoing


def transmit(outgoing: Outgoing, left: float) -> Piece:
    assert outgoing.ready
    piece, poll = outgoing.next()
    outgoing.number += 1
    outgoing.transmitted(piece, len(piece.data) + 12, left, poll=poll)
    return piece


def again(outgoing: Outgoing, now: float = 10.0) -> list[int]:
    """The numbers of what is to be sent again; it is."""
    numbers = []
    while outgoing.ready:
        numbers.append(transmit(outgoing, now).sequence)
    return numbers


def test_what_was_sent_before_what_came_and_did_not_come_is_lost() -> None:
    outgoing = sent(10, 10, 10, 10)
    assert outgoing.acknowledge(1, 5.0)
    outgoing.report(3, b"\x01", 0, 5.0)  # 1 is missing, 2 has come
    assert again(outgoing) == [1]
    assert outgoing.retransmissions == 1


def test_that_is_said_only_once_of_each_transmission() -> None:
    outgoing = sent(10, 10, 10)
    for _ in range(3):
        assert outgoing.acknowledge(1, 5.0)
        outgoing.report(3, b"\x01", 0, 5.0)
    assert again(outgoing) == [1]
    outgoing.report(3, b"\x01", 0, 11.0)
    assert again(outgoing) == []
    outgoing.report(4, b"\x01", 0, 12.0)  # it has come, though the peer does not say so: then it is lost once more
    assert again(outgoing) == [1]


def test_damage_tells_of_as_many_transmissions_as_were_damaged() -> None:
    outgoing = sent(10, 10, 10, 10)
    outgoing.acknowledge(1, 5.0)
    outgoing.report(1, b"", 2, 5.0)
    assert again(outgoing) == [1, 2]


def test_damage_tells_nothing_of_what_has_not_left_yet() -> None:
    outgoing = sent(10, 10, 10, 10)
    outgoing.acknowledge(1, 2.5)
    outgoing.report(1, b"", 3, 2.5)
    assert again(outgoing) == [1]


def test_an_acknowledgement_from_the_past_or_of_nothing_is_no_news() -> None:
    outgoing = sent(10, 10, 10)
    assert outgoing.acknowledge(2, 5.0)
    assert not outgoing.acknowledge(1, 5.0)
    assert not outgoing.acknowledge(9, 5.0)
    assert outgoing.acknowledge(3, 5.0)
    assert outgoing.settled


def test_what_the_peer_held_and_now_says_is_missing_is_sent_again() -> None:
    outgoing = sent(10, 10, 10)
    outgoing.acknowledge(0, 5.0)
    outgoing.report(3, b"\x03", 0, 5.0)  # it holds 1 and 2
    assert again(outgoing) == [0]
    outgoing.acknowledge(1, 11.0)  # and has forgotten 1
    outgoing.report(4, b"\x01", 0, 11.0)
    assert again(outgoing) == [1]


def test_the_numbers_go_round_and_nothing_is_mixed_up() -> None:
    outgoing = Outgoing(PEER, 240)
    for number in range(1000):
        outgoing.send(b"x" * 20)
        piece = transmit(outgoing, number * 1.0)
        assert piece.sequence == number
        if number % 7 == 3:
            outgoing.acknowledge(number & 0xFF, number + 0.5)
            outgoing.report((outgoing.number - 1) & 0xFF, b"", 1, number + 0.5)
            assert again(outgoing, number + 0.6) == [number]
        assert outgoing.acknowledge((number + 1) & 0xFF, number + 0.9)
    assert outgoing.settled


def test_before_anything_is_known_a_few_short_pieces_are_sent() -> None:
    outgoing = Outgoing(PEER, 240)
    outgoing.send(bytes(10_000))
    sizes = []
    while outgoing.ready:
        sizes.append(len(transmit(outgoing, 1.0).data))
    assert sizes == [64] * 8
    outgoing.acknowledge(1, 1.1)
    assert len(transmit(outgoing, 2.0).data) == 240


def test_pieces_have_one_length_where_a_small_rest_would_be_left() -> None:
    outgoing = sent(10)
    outgoing.acknowledge(1, 1.1)
    outgoing.limit(100)
    outgoing.send(bytes(210))
    sizes = []
    while outgoing.ready:
        sizes.append(len(transmit(outgoing, 2.0).data))
    assert sum(sizes) == 210
    assert max(sizes) - min(sizes) <= 10


def test_no_more_is_under_way_than_the_peer_takes() -> None:
    outgoing = Outgoing(Greeting(nonce=b"peer", mtu=120, window=8, buffer=240), 120)
    outgoing.send(bytes(1000))
    transmit(outgoing, 1.0)
    outgoing.acknowledge(1, 1.1)
    sizes = []
    while outgoing.ready:
        sizes.append(len(transmit(outgoing, 2.0).data))
    assert sum(sizes) + 11 * len(sizes) <= 240


def test_the_time_starts_at_the_last_byte_and_doubles() -> None:
    outgoing = sent(10)
    first = outgoing.deadline()
    assert first is not None
    assert first > 1.25
    assert outgoing.handle_timeout()
    assert again(outgoing, 2.0) == [0]
    second = outgoing.deadline()
    assert second is not None
    assert second == 2.0 + 2 * 0.25


def test_who_is_full_is_asked_and_sent_nothing() -> None:
    outgoing = sent(10)
    outgoing.full = True
    outgoing.acknowledge(1, 1.1)
    outgoing.send(b"more")
    assert not outgoing.ready
    assert outgoing.deadline() is not None
    assert not outgoing.handle_timeout()
    outgoing.full = False
    assert outgoing.ready


def test_what_is_acknowledged_after_all_is_not_sent_again() -> None:
    outgoing = sent(10)
    assert outgoing.handle_timeout()
    outgoing.acknowledge(1, 5.0)
    assert again(outgoing) == []
    assert outgoing.retransmissions == 0


def test_on_a_lossless_line_pieces_are_long_from_the_first_and_wait_for_ever() -> None:
    outgoing = Outgoing(Greeting(nonce=b"peer", window=64, buffer=1 << 20), 5000, lossless=True)
    outgoing.send(bytes(100_000))
    sizes = []
    while outgoing.ready:
        sizes.append(len(transmit(outgoing, 1.0).data))
    assert sizes == [5000] * 20
    assert outgoing.deadline() is None
    assert outgoing.acknowledge(20, 900.0)
    assert outgoing.settled
    outgoing.send(bytes(9000))
    assert len(transmit(outgoing, 901.0).data) == 4500
