"""Files over three hops whose middle is killed, over wires that break and lie, and to disks that are full: the name is never on half of one, and the next transfer goes on."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import faces
from rpyc_gateway.files import Progress
from rpyc_gateway.incoming import CHUNK
from rpyc_gateway.testing import BadWire
from tests.blocking_house import House as Nodes
from tests.blocking_house import open_blocking_lab
from tests.chains.processes import LOOPBACK, House, Process, connect_when_up, dial, listen, open_house, serve
from tests.either_face import FACES, with_session
from tests.house import open_house as open_nodes

LARGE = hashlib.shake_128(b"a large file").digest(12 * CHUNK + 17)
SAID = (gw.GatewayError, OSError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)
"""What ends a transfer, and what a far side may say to a question that was changed on its way."""
ENDS = (gw.LinkLost, gw.SessionClosed, gw.Unreachable)
Copy = Callable[..., Any]


class Chain(NamedTuple):
    """me - hq - relay - lab; each in a process of its own."""

    house: House
    hq: Process
    lab: Process

    def start_relay(self) -> Process:
        return self.house.start("relay", dial(self.hq.url) + dial(self.lab.url))

    def connect(self) -> gw.BlockingSession:
        return connect_when_up(self.hq.url, "lab")


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with open_house() as house:
        lab = house.start("lab", listen(LOOPBACK) + serve())
        hq = house.start("hq", listen(LOOPBACK))
        yield Chain(house, hq, lab)


@pytest.fixture(params=FACES)
def copy(request: pytest.FixtureRequest) -> Copy:
    """Call upload or download as the code of either face does: copy(url, gw.upload, ...)."""
    return partial(with_session, request.param)


@pytest.fixture(params=[gw.upload, gw.download], ids=["upload", "download"])
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A large file, and where it is to go: something is there already."""
    (tmp_path / "source").write_bytes(LARGE)
    (tmp_path / "target").write_bytes(b"old")
    return tmp_path / "source", tmp_path / "target"


# -- processes


def test_a_relay_is_killed_in_the_middle_and_the_next_transfer_goes_on_there(
    chain: Chain, copy: Copy, way: Copy, files: tuple[Path, Path]
) -> None:
    source, target = files
    relay = chain.start_relay()
    chain.connect().close()

    def kill(progress: Progress) -> None:
        if progress.done > len(LARGE) // 2:
            relay.kill()

    with pytest.raises(gw.LinkLost):
        copy(chain.hq.url, way, str(source), str(target), progress=kill)
    assert target.read_bytes() == b"old"

    another = chain.start_relay()
    with chain.connect() as conn:
        until_unlocked(conn, target)
    assert copy(chain.hq.url, way, str(source), str(target)).resumed > len(LARGE) // 4
    assert target.read_bytes() == LARGE
    assert sorted(os.listdir(source.parent)) == ["source", "target"]
    another.kill()


def until_unlocked(conn: gw.BlockingSession, target: Path) -> None:
    """Until the far side has noticed that the session of the first transfer is over."""
    conn.execute(f"""
import fcntl
with open({str(target.with_name(f".{target.name}.gw-part"))!r}) as part:
    fcntl.flock(part, fcntl.LOCK_EX)
""")


def test_a_far_disk_that_is_full_is_told_and_what_was_there_stays(
    chain: Chain, copy: Copy, files: tuple[Path, Path]
) -> None:
    """RLIMIT_FSIZE is what a full disk is to one process."""
    source, target = files
    relay = chain.start_relay()
    with chain.connect() as conn, limited(conn.modules.os.getpid()):
        for path in (source, source.parent):
            with pytest.raises(OSError, match="too large") as caught:
                copy(chain.hq.url, gw.upload, str(path), str(target if path == source else target.parent / "tree"))
            assert caught.value.errno == errno.EFBIG
        (source.parent / "small").write_bytes(b"small")
        copy(chain.hq.url, gw.upload, str(source.parent / "small"), str(target.parent / "tree"))
    assert target.read_bytes() == b"old"
    assert not list(source.parent.rglob("*.gw-part"))
    assert (target.parent / "tree" / "small").read_bytes() == b"small"
    relay.kill()


def test_a_near_disk_that_is_full_is_told_and_what_was_there_stays(
    chain: Chain, copy: Copy, files: tuple[Path, Path]
) -> None:
    source, target = files
    relay = chain.start_relay()
    chain.connect().close()
    with limited(os.getpid()), pytest.raises(OSError, match="too large"):
        copy(chain.hq.url, gw.download, str(source), str(target))
    assert target.read_bytes() == b"old"
    assert not list(source.parent.rglob("*.gw-part"))
    relay.kill()


@contextmanager
def limited(pid: int) -> Iterator[None]:
    """It writes no file beyond this size."""
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (2 * CHUNK + 5, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)


# -- wires


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with open_blocking_lab(3) as nodes:
        yield nodes


CUTS = (0, 300, 1000, 3000, 10_000, 40_000, *(n * CHUNK for n in (1, 3, 7, 11, 13)))
"""Bytes after which a wire breaks: in the questions before a file, in it, and behind it."""


def test_wherever_the_wire_breaks_the_file_is_the_old_one_or_the_new_one(
    nodes: Nodes, copy: Copy, way: Copy, files: tuple[Path, Path]
) -> None:
    source, target = files
    broken = resumed = 0
    with wire_before(nodes) as wire:
        for size in CUTS:
            target.write_bytes(b"old")
            try:
                copy(wire.url, way, str(source), str(target), begun=partial(wire.cut_after, size))
            except ENDS:
                broken += 1
                assert target.read_bytes() == b"old"
            else:
                assert target.read_bytes() == LARGE
            nodes.until_empty()
            done = copy(wire.url, way, str(source), str(target))
            resumed += 0 < done.resumed < len(LARGE)
            assert target.read_bytes() == LARGE
            nodes.until_empty()
    assert sorted(os.listdir(source.parent)) == ["source", "target"]
    assert broken >= len(CUTS) - 1
    assert resumed >= 1


@contextmanager
def wire_before(nodes: Nodes) -> Iterator[BadWire]:
    """In a thread of its own."""
    ready: SimpleQueue[Any] = SimpleQueue()

    async def run() -> None:
        async with BadWire(nodes.url) as wire:
            over = trio.Event()
            ready.put((wire, over, trio.lowlevel.current_trio_token()))
            await over.wait()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    wire, over, token = ready.get()
    try:
        yield wire
    finally:
        token.run_sync_soon(over.set)
        thread.join()


async def test_a_wire_that_changes_bytes_never_changes_a_file(way: Copy, files: tuple[Path, Path]) -> None:
    source, target = files
    changed = 0
    for seed in range(8):
        async with open_nodes("lab"), BadWire("memory://lab", "memory://wire", seed=seed) as wire:
            with (
                trio.move_on_after(5),
                suppress(*SAID),
            ):  # where a length was changed it would wait until the link is given up
                async with gw.open_session("memory://wire", node="lab") as lab:
                    wire.corrupt(1e-6)
                    await way(lab, str(source), str(target))
            assert target.read_bytes() in (b"old", LARGE)
            changed += target.read_bytes() == b"old"
            target.write_bytes(b"old")
            wire.corrupt(0)
            async with gw.open_session("memory://wire", node="lab") as lab:
                await way(lab, str(source), str(target))
            assert target.read_bytes() == LARGE
            target.write_bytes(b"old")
    assert changed > 4
    assert sorted(os.listdir(source.parent)) == ["source", "target"]


async def test_a_transfer_over_a_wire_that_fell_silent_can_be_left_and_the_next_one_goes_on_there(
    way: Copy, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = files
    monkeypatch.setattr(faces, "PATIENCE", 0.01)
    async with open_nodes("lab"), BadWire("memory://lab", "memory://wire") as wire:
        async with gw.open_session("memory://wire", node="lab") as lab:
            token = trio.lowlevel.current_trio_token()
            scope = trio.CancelScope()

            def fall_silent(progress: Progress) -> None:
                if progress.done > len(LARGE) // 2:
                    wire.blackhole()
                    token.run_sync_soon(scope.cancel)

            with scope:
                await way(lab, str(source), str(target), progress=fall_silent)
            assert scope.cancelled_caught
            assert target.read_bytes() == b"old"
            wire.mend()
            assert await lab.eval("1") == 1
            done = await way(lab, str(source), str(target))
    assert done.resumed > len(LARGE) // 4
    assert target.read_bytes() == LARGE
    assert sorted(os.listdir(source.parent)) == ["source", "target"]
