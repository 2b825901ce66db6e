"""BadLine is a serial line: two ports that pyserial opens, a rate, noise that can be had again, a plug that can be pulled."""

from __future__ import annotations

import math
import os
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.testing import BadLine
from rpyc_gateway.testing.line import Damage

FAST = 921_600


@contextmanager
def port(path: str, baudrate: int = 115_200) -> Iterator[serial.Serial]:
    """Opened as any program would; a read waits for all that it was asked for, or 10 s."""
    with serial.Serial(path, baudrate, timeout=10, exclusive=True) as opened:
        yield opened


def carried(line: BadLine, data: bytes, baudrate: int = 115_200) -> bytes:
    """What becomes of data from near to far; its last byte has to arrive."""
    with port(line.near, baudrate) as near, port(line.far, baudrate) as far:
        near.write(data)
        return far.read_until(data[-1:])


@pytest.mark.parametrize("baudrate", [FAST, math.inf])
def test_left_alone_it_carries_any_bytes_both_ways(baudrate: float) -> None:
    data = bytes(range(256)) * 20
    with BadLine(baudrate) as line, port(line.near) as near, port(line.far) as far:
        near.write(data)
        far.write(data[::-1])
        assert far.read(len(data)) == data
        assert near.read(len(data)) == data[::-1]
        assert (line.to_far.sent, line.to_far.received, line.to_near.sent) == (len(data),) * 3


def test_a_byte_takes_ten_bits_of_time() -> None:
    with BadLine(9600) as line, port(line.near) as near, port(line.far) as far:
        begun = time.monotonic()
        near.write(bytes(96))
        far.read(96)
        assert time.monotonic() - begun >= 0.1


def test_a_latency_comes_on_top() -> None:
    with BadLine(math.inf, latency=0.05) as line, port(line.near) as near, port(line.far) as far:
        begun = time.monotonic()
        near.write(b"x")
        far.read(1)
        assert time.monotonic() - begun >= 0.05


async def test_it_serves_async_code_and_leaves_nothing_behind() -> None:
    async with BadLine() as line:
        paths = [line.near, line.far]
        assert all(map(os.path.exists, paths))
    assert not any(map(os.path.lexists, paths))


def test_the_same_seed_does_the_same_damage_and_another_does_another() -> None:
    data = bytes(5000)

    def damaged(seed: int) -> bytes:
        with BadLine(math.inf, seed=seed, corrupt=0.01, lose=0.01, duplicate=0.01, burst=0.001) as line:
            with port(line.near) as near, port(line.far) as far:
                near.write(data)
                while line.to_far.sent < len(data):
                    time.sleep(0)
                return bytes(far.read(line.to_far.received))

    assert damaged(1) == damaged(1)
    assert damaged(1) != damaged(2)


NOISE = {"corrupt": 0.1, "lose": 0.1, "duplicate": 0.1, "burst": 0.01}


@given(st.binary(max_size=2000), st.lists(st.integers(1, 50), min_size=1), st.integers())
def test_what_is_damaged_does_not_depend_on_the_pieces_it_comes_in(data: bytes, cuts: list[int], seed: int) -> None:
    whole, pieces = Damage(str(seed), **NOISE), Damage(str(seed), **NOISE)
    arrived, at = b"", 0
    while at < len(data):
        cut = cuts[at % len(cuts)]
        arrived += pieces.apply(data[at : at + cut])
        at += cut
    assert arrived == whole.apply(data)
    assert pieces.traffic == whole.traffic


@pytest.mark.parametrize(
    ("chances", "counted"),
    [({"corrupt": 0.01}, "corrupted"), ({"lose": 0.01}, "lost"), ({"duplicate": 0.01}, "duplicated")],
)
def test_as_much_is_damaged_as_was_asked_for_and_it_is_counted(chances: dict[str, float], counted: str) -> None:
    damage = Damage("seed", **chances)
    arrived = damage.apply(bytes(100_000))
    assert getattr(damage.traffic, counted) == pytest.approx(1000, rel=0.15)
    assert len(arrived) == 100_000 - damage.traffic.lost + damage.traffic.duplicated
    assert len(arrived) - arrived.count(0) == damage.traffic.corrupted


def test_a_burst_is_sixteen_bytes_of_garbage() -> None:
    damage = Damage("seed", burst=0.001)
    damage.apply(bytes(100_000))
    assert damage.traffic.corrupted == pytest.approx(1600, rel=0.3)


@pytest.mark.parametrize(
    "wrong", [{"corrupt": 1.5}, {"lose": -0.1}, {"corrupt": 0.6, "lose": 0.6}, {"baudrate": 0}, {"latency": -1.0}]
)
def test_what_no_line_can_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"probability|more than 1|nothing|not possible"):
        BadLine(**wrong)  # type: ignore[arg-type]


def test_silence_loses_what_is_sent_until_it_is_mended() -> None:
    with BadLine(FAST) as line, port(line.near) as near, port(line.far) as far:
        line.silence(toward="far")
        near.write(b"lost")
        while line.to_far.lost < 4:
            time.sleep(0)
        line.mend()
        near.write(b"heard")
        assert far.read(5) == b"heard"
        far.write(b"answer")
        assert near.read(6) == b"answer"


def test_garbage_has_the_length_of_what_was_sent() -> None:
    with BadLine(FAST) as line, port(line.near) as near, port(line.far) as far:
        line.garble()
        near.write(bytes(100))
        assert far.read(100) != bytes(100)
        line.mend()
        near.write(bytes(100))
        assert far.read(100) == bytes(100)


def test_pulled_out_it_ends_for_who_has_it_open_and_comes_back_under_its_paths() -> None:
    with BadLine() as line:
        with port(line.near) as near:
            line.unplug()
            assert os.read(near.fileno(), 10) == b""
            with pytest.raises(OSError, match="Input/output error"):
                os.write(near.fileno(), b"gone")
            assert not os.path.lexists(line.near)
        line.plug()
        assert carried(line, b"back.") == b"back."


def test_what_nobody_reads_is_lost_and_counted() -> None:
    with BadLine(4_000_000) as line, port(line.near) as near, port(line.far):
        for _ in range(400):
            near.write(bytes(256))
        while line.to_far.received < 400 * 256:
            time.sleep(0)
        assert line.to_far.overrun > 0


def test_ports_of_two_rates_hear_garbage_where_the_line_lets_them_choose() -> None:
    with BadLine(None, fastest=460_800) as line:
        assert carried(line, b"slow.", 9600) == b"slow."
        assert carried(line, b"fast.", 460_800) == b"fast."
        with port(line.near, 115_200) as near, port(line.far, 57_600) as far:
            near.write(b"differ" * 10)
            assert far.read(60) != b"differ" * 10
        with port(line.near, FAST) as near, port(line.far, FAST) as far:
            near.write(b"too fast for it" * 4)
            assert far.read(60) != b"too fast for it" * 4


def test_a_line_that_is_idle_does_nothing() -> None:
    with BadLine() as line:
        carried(line, b"awake.")
        used = line.cpu
        time.sleep(0.05)
        assert line.cpu - used < 0.005


def test_nothing_is_echoed_before_a_port_was_opened() -> None:
    with BadLine(math.inf) as line:
        far = os.open(line.far, os.O_RDWR | os.O_NOCTTY)
        try:
            assert not termios.tcgetattr(far)[3] & (termios.ECHO | termios.ICANON)
        finally:
            os.close(far)


def test_the_noise_of_a_line_may_change_while_it_runs() -> None:
    with BadLine(math.inf, seed=1) as line:
        near, far = (os.open(port, os.O_RDWR | os.O_NOCTTY) for port in (line.near, line.far))
        try:
            for noise, came in (({}, b"abc"), ({"duplicate": 1.0}, b"aabbcc"), ({}, b"abc")):
                line.disturb(**noise)
                os.write(near, b"abc")
                heard = b""
                while len(heard) < len(came):
                    heard += os.read(far, 100)
                assert heard == came
            with pytest.raises(ValueError, match="no probability"):
                line.disturb(lose=2)
        finally:
            os.close(near)
            os.close(far)
        assert line.to_far.duplicated == 3
