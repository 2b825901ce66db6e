"""Memory for long bodies: what is written is what is there, whoever gave it."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

from rpyc_gateway.proto import memory as room
from rpyc_gateway.proto.memory import FRESH, fresh_memory

SIZE = FRESH + 12_345


@pytest.fixture(params=["advised", "not advised"])
def _advice(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "not advised":
        monkeypatch.setattr(room, "_large_pages", lambda: None)


@pytest.mark.usefixtures("_advice")
def test_what_is_written_is_its_value() -> None:
    memory = fresh_memory(SIZE)
    for number in range(0, SIZE, 1 << 20):
        memory.write(bytes([number >> 20]) * min(1 << 20, SIZE - number))
    value = memory.getvalue()
    assert value == b"".join(bytes([n >> 20]) * min(1 << 20, SIZE - n) for n in range(0, SIZE, 1 << 20))
    assert memory.getvalue() is value  # no copy


@pytest.mark.usefixtures("_advice")
def test_what_is_not_written_is_zero() -> None:
    memory = fresh_memory(SIZE)
    memory.seek(SIZE // 2)
    memory.write(b"here")
    assert memory.getvalue() == bytes(SIZE // 2) + b"here" + bytes(SIZE - SIZE // 2 - 4)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no large pages")
def test_nothing_is_taken_from_the_system_before_it_is_written() -> None:
    code = """
import resource
from rpyc_gateway.proto.memory import fresh_memory
fresh_memory(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
memory = fresh_memory(2**29)
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB, of 2**19
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
