"""Memory: of this process, filled by the far side; of the far side, read here."""

from __future__ import annotations

import mmap
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from tests.house import HOPS
from tests.telling import Costs, told


@HOPS
async def test_a_remote_file_reads_into_a_local_buffer_in_one_round_trip(hops: int) -> None:
    def story(lab: Any, costs: Costs) -> None:
        file = lab.eval("__import__('io').BytesIO(b'hello world')")
        buffer = bytearray(5)
        costs.calls()
        assert file.readinto(buffer) == 5
        assert costs.calls() == 1
        assert buffer == b"hello"
        words = array("H", [0] * 2)
        assert file.readinto(memoryview(words)[1:]) == 2
        assert words.tobytes() == b"\0\0 w"
        assert file.readinto(bytearray(100)) == 4
        assert file.readinto(kept := bytearray(b"abc")) == 0
        assert kept == b"abc"
        memory = mmap.mmap(-1, 16)
        file.seek(0)
        assert file.readinto(memory) == 11
        assert memory[:11] == b"hello world"
        memory.close()

    await told(story, hops=hops)


async def test_files_and_sockets_that_fill_buffers_do_so_here(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"0123456789")

    def story(lab: Any) -> None:
        file = lab.builtins.open(str(tmp_path / "data"), "rb")
        buffer = bytearray(4)
        assert file.readinto1(buffer) == 4
        assert buffer == b"0123"
        file.close()
        near, far = lab.eval("__import__('socket').socketpair()")
        far.sendall(b"abcdef")
        assert near.recv_into(buffer, 2) == 2
        assert buffer == b"ab23"
        assert near.recv_into(buffer, nbytes=3) == 3
        assert buffer == b"cde3"
        assert near.recvfrom_into(buffer)[0] == 1
        assert buffer == b"fde3"
        near.setblocking(False)  # noqa: FBT003
        with pytest.raises(BlockingIOError):
            near.recv_into(buffer)
        raw = lab.eval("Raw()")
        assert raw.readinto(buffer) is None
        assert buffer == b"fde3"
        assert raw.read_into is None
        assert lab.eval("Liar()").readinto(buffer) == 99
        assert buffer == b"fde3"
        near.close()
        far.close()

    await told(
        story,
        "import io\nclass Raw(io.RawIOBase):\n read_into = None\n def readinto(self, b): return None\nclass Liar(Raw):\n def readinto(self, b): return 99",
    )


async def test_without_a_local_buffer_it_is_a_method_like_any_other() -> None:
    def story(lab: Any) -> None:
        file = lab.eval("__import__('io').BytesIO(b'hello')")
        there = lab.eval("bytearray(5)")
        assert file.readinto(there) == 5
        assert there == b"hello"
        for wrong in (lambda: file.readinto(b"const"), lambda: file.readinto(), lambda: file.readinto(5)):
            with pytest.raises(TypeError):
                wrong()
        assert not hasattr(lab.eval("[]"), "readinto")

    await told(story)


@HOPS
async def test_the_memory_of_a_remote_object_is_read_in_one_round_trip(hops: int) -> None:
    def story(lab: Any, costs: Costs) -> None:
        for source in (
            "bytearray(b'abcd')",
            "memoryview(b'abcd')",
            "array('B', b'abcd')",
            "mmap.mmap(-1, 4)",
            "Own(b'abcd')",
            "(ctypes.c_char * 4)(*b'abcd')",
        ):
            remote = lab.eval(source)
            costs.calls()
            assert bytes(remote) == (b"\0" * 4 if "mmap" in source else b"abcd")
            assert costs.calls() == 1
        assert bytes(lab.eval("[1, 2]")) == b"\1\2"
        with pytest.raises(TypeError):
            bytes(lab.eval("object()"))

    setup = "import mmap, ctypes\nfrom array import array\nclass Own(bytearray): pass"
    await told(story, setup, hops=hops)


async def test_memoryview_needs_python_3_12() -> None:
    def story(lab: Any) -> None:
        remote = lab.eval("bytearray(b'abc')")
        if sys.version_info < (3, 12):
            with pytest.raises(TypeError, match="bytes-like"):
                memoryview(remote)
            return
        view = memoryview(remote)
        remote.append(1)
        assert view == b"abc"
        assert view.readonly

    await told(story)
