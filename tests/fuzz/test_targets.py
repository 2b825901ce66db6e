"""Each target takes what it is given: random bytes, and good bytes with some changed. atheris searches further, where it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds

ROOT = Path(__file__).parents[2]
SEEDS = seeds()


@pytest.mark.parametrize("name", TARGETS)
def test_good_bytes_are_taken_by_everything(name: str) -> None:
    for data in SEEDS:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.lists(st.binary(max_size=40), max_size=8))
def test_random_bytes_break_nothing(name: str, data: list[bytes]) -> None:
    TARGETS[name](b"".join(bytes([len(piece)]) + piece for piece in data))


@pytest.mark.parametrize("name", TARGETS)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=5),
    end=st.integers(0, 600),
)
def test_good_bytes_with_some_changed_break_nothing(
    name: str, seed: bytes, changes: list[tuple[int, int]], end: int
) -> None:
    data = bytearray(seed)
    for place, byte in changes:
        if data:
            data[place % len(data)] = byte
    TARGETS[name](bytes(data[:end]))


@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="needs atheris: pip install -e '.[fuzz]'")
def test_a_short_search_finds_nothing() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "3", "--seed", "7", "link_frames", "session"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout
    assert "2 of 2 targets held" in result.stdout
