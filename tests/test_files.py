"""Files and directories to the far side and back, blocking code and trio code, over one link and three."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import files
from rpyc_gateway.files import Progress
from rpyc_gateway.filestore import CHUNK
from tests.blocking_house import House, open_blocking_lab

LARGE = os.urandom(3 * CHUNK + 17)
Transfer = Callable[..., Any]


@pytest.fixture(scope="module", params=[1, 4], ids=["0 relays", "3 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture(params=["blocking", "trio"])
def transfer(request: pytest.FixtureRequest, house: House) -> Transfer:
    """Call upload or download with a session, as the code of either face does."""

    def blocking(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with house.connect() as conn:
            return function(conn, *args, **options)

    def in_trio(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        async def run() -> Any:
            async with gw.open_session(house.url, node="lab") as session:
                return await function(session, *args, **options)

        return trio.run(run)

    return blocking if request.param == "blocking" else in_trio


@pytest.fixture(params=[gw.upload, gw.download], ids=["upload", "download"])
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("data", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_file_arrives_whole_with_its_permissions_and_time(
    way: Any, transfer: Transfer, data: bytes, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    source.chmod(0o750)
    os.utime(source, ns=(10**18, 10**18))
    assert transfer(way, str(source), str(target)) == (1, len(data), 0, ())
    assert target.read_bytes() == data
    assert (target.stat().st_mode & 0o777, target.stat().st_mtime_ns) == (0o750, 10**18)
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_a_file_goes_into_a_directory_under_its_name(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    (tmp_path / "into").mkdir()
    transfer(way, str(tmp_path / "source"), str(tmp_path / "into"))
    assert (tmp_path / "into" / "source").read_bytes() == LARGE


def test_a_directory_arrives_with_all_that_is_in_it(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    contents = {f"{number}.txt": b"x" * number for number in range(600)} | {"sub/large": LARGE, "sub/sub/.hidden": b"1"}
    for name, data in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    (source / "empty").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "other").write_bytes(b"stays")
    seen: list[Progress] = []
    done = transfer(way, str(source), str(tmp_path / "target"), progress=seen.append)
    size = sum(map(len, contents.values()))
    assert done == (len(contents), size, 0, ())
    there = {file.relative_to(tmp_path / "target").as_posix(): file for file in (tmp_path / "target").rglob("*")}
    assert {name: file.read_bytes() for name, file in there.items() if file.is_file()} == contents | {"other": b"stays"}
    assert there["empty"].is_dir()
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1][1:] == (size, size)
    assert Progress("sub/large", seen[-1].done, size).path in {progress.path for progress in seen}


def test_only_what_is_chosen_goes(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    for name in ("keep/a.py", "keep/a.pyc", "drop/b.py", "c.py"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(b"1")
    asked: list[str] = []

    def chosen(path: str) -> bool:
        asked.append(path)
        return path not in ("drop", "keep/a.pyc")

    assert transfer(way, str(tmp_path / "source"), str(tmp_path / "target"), chosen).files == 2
    assert "drop/b.py" not in asked
    assert not (tmp_path / "target" / "drop").exists()


def test_what_is_neither_file_nor_directory_is_refused_or_left_out(
    way: Any, transfer: Transfer, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "pipe")
    (source / "link").symlink_to(".")
    for what in (source, source / "pipe"):
        with pytest.raises(ValueError, match="neither a file nor a directory"):
            transfer(way, str(what), str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()
    left_out = transfer(way, str(source), str(tmp_path / "target"), ignore_invalid=True).left_out
    assert sorted(left_out) == [str(source / "link"), str(source / "pipe")]
    assert transfer(way, str(source / "pipe"), str(tmp_path / "x"), ignore_invalid=True).files == 0


def test_no_file_takes_the_place_of_a_device_or_pipe(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"1")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no file takes its place"):
        transfer(way, str(tmp_path / "source"), str(tmp_path / "pipe"))
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["pipe", "source"]


def test_what_is_not_there_or_may_not_be_is_an_error_of_its_kind(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        transfer(way, str(tmp_path / "missing"), str(tmp_path / "target"))
    (tmp_path / "source").write_bytes(LARGE)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        transfer(way, str(tmp_path / "source"), str(tmp_path / "nowhere" / "target"))
    (tmp_path / "directory").mkdir()
    with pytest.raises(FileExistsError):
        transfer(way, str(tmp_path / "directory"), str(tmp_path / "source"))
    assert sorted(os.listdir(tmp_path)) == ["directory", "source"]


class Enough(Exception):
    """Of a watcher that breaks a transfer off."""


def test_what_was_broken_off_goes_on_where_it_was(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LARGE)
    target.write_bytes(b"old")

    def enough(progress: Progress) -> None:
        if progress.done > CHUNK:
            raise Enough

    with pytest.raises(Enough):
        transfer(way, str(source), str(target), progress=enough)
    assert target.read_bytes() == b"old"
    done = transfer(way, str(source), str(target))
    assert done.resumed >= CHUNK
    assert target.read_bytes() == LARGE
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_what_has_changed_since_it_was_broken_off_begins_anew(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LARGE)
    (tmp_path / ".target.gw-part").write_bytes(b"\0" + LARGE[1:CHUNK])
    assert transfer(way, str(source), str(target)) == (1, len(LARGE), 0, ())
    assert target.read_bytes() == LARGE


def test_a_failure_in_the_middle_leaves_nothing_locked(way: Any, house: House, tmp_path: Path) -> None:
    """Also while its exception is looked at."""
    (tmp_path / "source").write_bytes(LARGE)

    def enough(progress: Progress) -> None:
        if progress.done > CHUNK:
            raise Enough

    with house.connect() as conn:
        try:
            way(conn, str(tmp_path / "source"), str(tmp_path / "target"), progress=enough)
        except Enough:
            assert way(conn, str(tmp_path / "source"), str(tmp_path / "target")).resumed >= CHUNK


def test_a_timeout_in_the_middle_keeps_what_has_come(way: Any, house: House, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(LARGE)
    forever = threading.Event()

    def slow(progress: Progress) -> None:
        if progress.done > CHUNK:
            forever.wait(0.3)

    with house.connect() as conn:
        with pytest.raises(gw.TimedOut), gw.timeout(0.25):
            way(conn, str(tmp_path / "source"), str(tmp_path / "target"), progress=slow)
        assert not (tmp_path / "target").exists()
        assert way(conn, str(tmp_path / "source"), str(tmp_path / "target")).resumed >= CHUNK
    assert (tmp_path / "target").read_bytes() == LARGE


def test_a_far_side_that_names_files_outside_is_refused(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = files._far_store()
    lying = source.replace("return tuple(found)", 'return ((("..", "evil"), False, 4),)')
    assert lying != source
    (tmp_path / "source").mkdir()
    (tmp_path / "evil").write_bytes(b"evil")
    monkeypatch.setattr(files, "_far_store", lambda: lying)
    with house.connect() as conn, pytest.raises(OSError, match="refused"):
        gw.download(conn, str(tmp_path / "source"), str(tmp_path / "below" / "target"))
    assert not (tmp_path / "below" / "evil").exists()


def test_a_package_of_ours_is_imported_there(transfer: Transfer, house: House, tmp_path: Path) -> None:
    package = tmp_path / "here" / "outer" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("def hello(): return __file__\n")
    sys.path.insert(0, str(tmp_path / "here"))
    try:
        transfer(gw.upload_package, "outer.inner", str(tmp_path / "there"))
        assert (tmp_path / "there" / "outer" / "inner" / "__init__.py").exists()
        assert not list((tmp_path / "there").rglob("__pycache__"))
        with house.connect() as conn:
            conn.modules.sys.path.insert(0, str(tmp_path / "there"))
    finally:
        sys.path.remove(str(tmp_path / "here"))
        sys.path.remove(str(tmp_path / "there"))
        sys.modules.pop("outer", None)


def test_a_module_without_a_file_cannot_be_sent(house: House) -> None:
    with house.connect() as conn, pytest.raises(ValueError, match="sys has no file"):
        gw.upload_package(conn, sys)
