"""`rpyc-gw device put -r`, `get -r`, `rm -r`, `mkdir`: directories of MicroPython on a port, and of the same as a node."""

from __future__ import annotations

import os
from contextlib import ExitStack
from io import IOBase
from pathlib import Path
from typing import Any

import pytest
import trio

from rpyc_gateway.cli.onboard import files, trees
from rpyc_gateway.cli.onboard.interpreters import BoardFailed
from rpyc_gateway.errors import LinkLost
from tests.cli.boards import BOTH_WAYS, Here, open_board
from tests.device.boards import needs_micropython


def tree(root: Path) -> dict[str, bytes | None]:
    """What is in a directory: the content of each file, None for a directory."""
    return {path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "project" / "empty").mkdir()
    (tmp_path / "project" / "main.py").write_text("import lib")
    (tmp_path / "project" / "lib" / "süß.py").write_text("x = 1")
    (tmp_path / "project" / "lib" / "deep" / "data.bin").write_bytes(bytes(3000))
    return tmp_path / "project"


@needs_micropython
@BOTH_WAYS
async def test_directories_go_there_and_back_and_what_is_there_is_not_sent_again(
    way: str, project: Path, tmp_path: Path
) -> None:
    flash, back = tmp_path / "flash", tmp_path / "back"
    back.mkdir()
    async with open_board(way) as board:
        assert await board.ask("mkdir", flash, flash / "lib") == (0, "", "")
        assert await board.ask("put", "-r", project, flash) == (0, "", "")
        assert tree(flash / "project") == tree(project)
        (project / "main.py").write_text("import bil")  # as long as it was
        code, out, err = await board.ask("put", "-r", project, flash)
        assert (code, out) == (0, "")
        assert err.splitlines() == [
            f"up to date: {flash}/project/lib/süß.py",
            f"up to date: {flash}/project/lib/deep/data.bin",
        ]
        assert tree(flash / "project") == tree(project)
        assert await board.ask("put", "-r", "--force", project, flash / "new") == (0, "", "")
        assert tree(flash / "new") == tree(project)
        assert await board.ask("get", "-r", f"{flash}/project", back) == (0, "", "")
        assert await board.ask("get", "-r", f"{flash}/project", back / "new") == (0, "", "")
        assert tree(back / "project") == tree(back / "new") == tree(project)
        code, out, err = await board.ask("get", f"{flash}/new/main.py", f"{flash}/project/lib/süß.py", back / "new")
        assert (code, out, err) == (0, "", f"up to date: {flash}/new/main.py\n")
        assert await board.ask("rm", "-r", flash / "project", flash / "new" / "main.py", f"{flash}/lib/") == (0, "", "")
    assert set(tree(flash)) == {
        "new",
        "new/empty",
        "new/lib",
        "new/lib/deep",
        "new/lib/deep/data.bin",
        "new/lib/süß.py",
    }


@needs_micropython
async def test_what_is_wrong_is_told_before_anything_is_copied(project: Path, tmp_path: Path) -> None:
    flash = tmp_path / "flash"
    flash.mkdir()
    (flash / "file").write_text("kept")
    (project / "zz").symlink_to(project / "lib")
    async with open_board("port") as board:
        name = board.target[-1]
        told = f"rpyc-gw: {project}/zz: is no file and no directory, and cannot be copied; nothing was\n"
        assert await board.ask("put", "-r", project, flash) == (1, "", told)
        code, out, err = await board.ask("put", project, flash)
        assert (code, out, err.splitlines()[-1]) == (2, "", f"Error: {project} is a directory: -r copies those")
        code, out, err = await board.ask("put", "-r", f"{project}/lib/..", flash)
        assert (code, out, err.splitlines()[-1]) == (2, "", f"Error: {project}/lib/..: say what it is called")
        code, out, err = await board.ask("get", "-r", f"{flash}/..", tmp_path)
        assert (code, out, err.splitlines()[-1]) == (2, "", f"Error: {flash}/..: say what it is called")
        told = f"rpyc-gw: {name}: {flash}/file: OSError: [Errno 17] EEXIST\n"
        assert await board.ask("mkdir", flash / "file") == (1, "", told)
        told = f"rpyc-gw: {name}: /: is not removed as a whole: say what in it is to go\n"
        assert await board.ask("rm", "-r", "/") == (1, "", told)
    assert tree(flash) == {"file": b"kept"}


async def test_what_a_directory_is_in_is_not_removed_by_that_name(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(BoardFailed, match="is not removed as a whole"):
        await trees.remove_tree(Here(), str(tmp_path / "kept" / "x" / ".."))
    assert tree(tmp_path) == {"kept": b"kept"}


class Lying(Here):
    """A board that calls its files as it likes."""

    def __init__(self, *names: str) -> None:
        self.names = names

    async def call(self, function: Any, *args: Any) -> Any:
        return tuple((name, name == "deeper", 1) for name in self.names)


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "a\\b", "", "x\0"])
async def test_a_name_that_would_lead_out_of_the_target_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BoardFailed, match="is no name of a file here; nothing was copied"):
        await trees.remote_tree(Lying("good", name), "/flash", tmp_path)


async def test_a_board_whose_directories_never_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BoardFailed, match="more than 32 directories in each other"):
        await trees.remote_tree(Lying("deeper"), "/flash", tmp_path)


class Unplugged(Here):
    """A board that is unplugged when so many calls have been made."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.results = ExitStack()

    async def call(self, function: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.calls -= 1
        if self.calls < 0:
            raise LinkLost("here: the pipe has ended: was it unplugged?")
        result = await super().call(function, *args)
        for method in result if isinstance(result, tuple) else ():
            if isinstance(file := getattr(method, "__self__", None), IOBase):
                self.results.enter_context(file)
        return result


@pytest.mark.parametrize("calls", range(5))
async def test_a_plug_that_is_pulled_leaves_no_half_file_under_its_name(calls: int, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.write_bytes(b"old" * 1000)
    here.write_bytes(b"new" * 1000)
    for copy in (
        lambda board: files.put(board, here, str(there), lambda _done, _whole: None),
        lambda board: files.get(board, str(here), there, lambda _done, _whole: None),
    ):
        board = Unplugged(calls)
        with board.results, pytest.raises(LinkLost, match="was it unplugged"):
            await copy(board)
        assert there.read_bytes() == b"old" * 1000
    assert set(os.listdir(tmp_path)) <= {"there", "here", "there.part"}


async def test_a_board_without_files_is_told_as_one() -> None:
    """The `os` of a micro:bit has neither directories nor stat."""

    class Small(Here):
        async def call(self, function: Any, *args: Any) -> Any:
            raise BoardFailed(self.name, "AttributeError", "'module' object has no attribute 'getcwd'")

    with pytest.raises(
        BoardFailed, match=r"^here: the `os` of this board has not what its files are reached by \(Attr"
    ):
        await files.listing(Small(), "")
