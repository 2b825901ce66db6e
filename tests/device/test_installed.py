"""An agent on the flash of MicroPython: found where it runs, left to the next, replaced where it is old."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from rpyc_gateway.device import driver, installed
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.flash import BEGIN, agent_file
from rpyc_gateway.device.installed import version
from rpyc_gateway.errors import PeerRestarted
from rpyc_gateway.transport import Pipe

from .boards import FakeBoard, fake_board, needs_micropython

pytestmark = needs_micropython
CONTENT = agent_file(binary=True, printer=True, free=100_000)


@asynccontextmanager
async def installed_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes = CONTENT, heap: str = ""
) -> AsyncIterator[tuple[Pipe, FakeBoard]]:
    """A board whose main.py has started the agent."""
    (tmp_path / "gwagent.py").write_bytes(content)
    monkeypatch.setenv("MICROPYPATH", str(tmp_path))
    async with fake_board(heap) as (pipe, board):
        await pipe.stream.send_all(BEGIN.replace("\n", ";").encode() + b"\r")
        said = b""
        while b"\x1e" not in said:  # it has greeted
            said += await pipe.stream.receive_some()
        yield pipe, board


async def vanish(*_: object) -> None:
    """End as one that was killed."""
    await trio.lowlevel.checkpoint()


async def test_it_is_used_without_an_upload_one_front_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[int] = []
    shown: list[bytes] = []
    async with installed_board(tmp_path, monkeypatch) as (pipe, _):
        for _ in range(3):
            async with open_board(pipe, progress=lambda done, _: uploaded.append(done), show=shown.append) as board:
                assert board.platform.implementation == "micropython"
                assert board.platform.binary
                assert board.platform.free > 100_000
                assert await board.evaluate("'x' in globals()") is False, "each front begins anew"
                await board.execute("x = 1; print('here')")
                assert await board.evaluate("x") == 1
                assert await board.call(await board.evaluate("lambda f: f(20) + 1"), lambda a: a * 2) == 41
    assert not uploaded
    assert shown == [b"here"] * 3


async def test_who_leaves_in_the_middle_of_a_loop_leaves_an_agent_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[int] = []
    async with installed_board(tmp_path, monkeypatch) as (pipe, _):
        with trio.move_on_after(0.5) as scope:
            async with open_board(pipe) as board:
                await board.execute("while True: pass")
        assert scope.cancelled_caught
        async with open_board(pipe, progress=lambda done, _: uploaded.append(done)) as board:
            assert await board.evaluate("1") == 1
    assert not uploaded


async def test_a_front_that_vanished_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[int] = []
    async with installed_board(tmp_path, monkeypatch) as (pipe, _):
        with monkeypatch.context() as patch:
            patch.setattr(installed, "let_go", vanish)
            async with open_board(pipe) as board:
                await board.execute("x = 1")
        async with open_board(pipe, progress=lambda done, _: uploaded.append(done)) as board:
            assert await board.evaluate("2") == 2
    assert not uploaded


async def test_another_version_is_replaced_in_ram_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old = CONTENT.replace(version(("console", "micropython", "core", "callbacks")).encode(), b"console core 0")
    assert old != CONTENT
    uploaded: list[int] = []
    async with installed_board(tmp_path, monkeypatch, old) as (pipe, _):
        with caplog.at_level(logging.WARNING):
            async with open_board(pipe, progress=lambda done, _: uploaded.append(done)) as board:
                assert await board.evaluate("6 * 7") == 42
    assert uploaded
    assert [record.getMessage() for record in caplog.records] == [
        "the board: the agent on its flash is another version: one is uploaded to its RAM, until `rpyc-gw device install` is run again"
    ]


async def test_a_reset_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with installed_board(tmp_path, monkeypatch) as (pipe, fake):
        async with open_board(pipe) as board:
            fake.kill()
            assert isinstance(await board.wait_lost(), PeerRestarted)
        async with open_board(pipe) as board:
            assert await board.evaluate("1") == 1


async def test_three_interrupts_bring_the_prompt_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with installed_board(tmp_path, monkeypatch) as (pipe, _):
        said = b""
        for _ in range(3):
            await pipe.stream.send_all(b"\r\x03")
            with trio.move_on_after(0.3):
                while not said.endswith(b">>> "):
                    said += await pipe.stream.receive_some()
        assert said.endswith(b">>> ")


async def test_a_board_at_its_prompt_is_not_waited_for() -> None:
    async with fake_board() as (pipe, _):
        async with open_board(pipe):
            pass
        with trio.fail_after(5):
            assert await installed.hear(pipe) is None


async def test_an_uploaded_one_that_has_lost_its_front_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[int] = []
    async with fake_board() as (pipe, _):
        with monkeypatch.context() as patch:
            patch.setattr(driver, "leave", vanish)
            async with open_board(pipe) as board:
                await board.execute("x = 1")
        assert await installed.hear(pipe) is not None
        async with open_board(pipe, progress=lambda done, _: uploaded.append(done)) as board:
            assert await board.evaluate("'x' in globals()") is False
    assert uploaded


async def test_a_small_heap_has_room_to_import_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with installed_board(tmp_path, monkeypatch, agent_file(binary=True, printer=True, free=8000), "40k") as (
        pipe,
        _,
    ):
        async with open_board(pipe) as board:
            assert await board.evaluate("len('x' * 100)") == 100
