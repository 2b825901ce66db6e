"""What one transfer sends in a message, and whom it talks to; the transfers themselves are in test_files.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.incoming import CHUNK
from rpyc_gateway.sync import BlockingSession
from rpyc_gateway.transfers import GROUP, MANY, _groups, _twins, far_store
from tests.device.boards import needs_micropython
from tests.device.test_node import open_lab as open_board


def test_small_files_share_messages_and_large_ones_go_alone() -> None:
    small = [((str(number),), 1) for number in range(MANY + 1)]
    large = (("large",), CHUNK + 1)
    groups = list(_groups([*small, large, *small[:2]]))
    assert [len(group) for group in groups] == [MANY, 1, 1, 2]
    assert groups[2] == (large,)
    assert sum(groups, ()) == (*small, large, *small[:2])


def test_names_that_windows_and_macos_take_for_the_same_are_found() -> None:
    assert _twins([("a",), ("b", "a"), ("b",)]) is None
    assert _twins([("a", "B"), ("A", "b")]) == ("a/B", "A/b")
    assert _twins([("\u00e9",), ("e\u0301",)]) == ("\u00e9", "e\u0301")
    assert _twins([("\udcff",), ("\udcfe",)]) is None


def test_no_message_of_small_files_is_larger_than_it_may_be() -> None:
    groups = list(_groups([((str(number),), CHUNK) for number in range(9)]))
    assert [sum(size for _, size in group) for group in groups] == [GROUP, GROUP, CHUNK]


@needs_micropython
async def test_a_board_is_no_place_for_it_and_the_command_for_boards_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")

    def in_blocking_code(session: Any) -> None:
        conn = BlockingSession(session, lambda: None)
        for copy in (
            lambda: gw.upload(conn, str(tmp_path / "file"), "file"),
            lambda: gw.download(conn, "file", str(tmp_path / "back")),
            lambda: far_store(conn),
        ):
            with pytest.raises(TypeError, match="rpyc-gw device put"):
                copy()

    async with open_board() as (board, _):
        with pytest.raises(TypeError, match="rpyc-gw device put"):
            await gw.upload(board, str(tmp_path / "file"), "file")
        await trio.to_thread.run_sync(in_blocking_code, board)
        assert await board.eval("6 * 7") == 42
