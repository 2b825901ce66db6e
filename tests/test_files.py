"""Files and directories to the far side and back, blocking code and trio code, over one link and three."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import faces, transfers
from rpyc_gateway.files import Progress
from rpyc_gateway.filestore import Store
from rpyc_gateway.incoming import CHUNK
from tests.blocking_house import House, open_blocking_lab
from tests.either_face import FACES, with_session

LARGE = os.urandom(3 * CHUNK + 17)
Transfer = Callable[..., Any]


@pytest.fixture(scope="module", params=[1, 4], ids=["0 relays", "3 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture(params=FACES)
def transfer(request: pytest.FixtureRequest, house: House) -> Transfer:
    """Call upload or download with a session, as the code of either face does."""
    return partial(with_session, request.param, house.url)


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


# What a far side says of a directory, and of a file in it; then what is said of it here.
LIES = {
    "a name that leads out": ('yield (((), (493, 0)),), ((("..", "evil"), 4),), (), ()', "refused"),
    "an absolute name": ('yield (((), (493, 0)),), ((("/evil",), 4),), (), ()', "refused"),
    "a separator in a name": ('yield (((), (493, 0)),), ((("sub/../../evil",), 4),), (), ()', "refused"),
    "a directory that leads out": ('yield (((), (493, 0)), (("..", "evil"), (493, 0))), (), (), ()', "refused"),
    "an object for a name": ('yield (((), (493, 0)),), (((["evil"],), 4),), (), ()', "refused"),
    "a link that is here": ('yield (((), (493, 0)),), ((("link", "evil"), 4),), (), ()', "written through it"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_far_side_that_lies_writes_nothing_outside(
    lie: str, transfer: Transfer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, answer = LIES[lie]
    source = transfers.store_text()
    lying = source.replace("pending: list[Names] = [()]", f"pending = []; {said}; pending")
    lying = lying.replace("return tuple(_read_small(path, names, size) for", 'return tuple((b"evil", (493, 0)) for')
    assert lying != source
    (tmp_path / "source").mkdir()
    (tmp_path / "below" / "target").mkdir(parents=True)
    (tmp_path / "below" / "target" / "link").symlink_to("..")
    monkeypatch.setattr(transfers, "store_text", lambda: lying)
    with pytest.raises(OSError, match=answer):
        transfer(gw.download, str(tmp_path / "source"), str(tmp_path / "below" / "target"))
    assert not list(tmp_path.rglob("*evil*"))


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
    with house.connect() as conn, pytest.raises(TypeError, match="by itself or by its name, and not as 5"):
        gw.upload_package(conn, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("copy", [gw.upload, gw.download])
def test_what_is_no_session_is_told(copy: Any) -> None:
    with pytest.raises(TypeError, match=r"a session of gw\.connect or gw\.open_session is needed here, not 'lab'"):
        copy("lab", "a", "b")


# -- from one far side to another


@pytest.fixture(params=["blocking", "trio"])
def between(request: pytest.FixtureRequest, house: House) -> Transfer:
    """Call transfer with two sessions, as the code of either face does."""

    def blocking(*args: Any, **options: Any) -> Any:
        with house.connect() as source, house.connect() as target:
            return gw.transfer(source, args[0], target, *args[1:], **options)

    def in_trio(*args: Any, **options: Any) -> Any:
        async def run() -> Any:
            async with (
                gw.open_session(house.url, node="lab") as source,
                gw.open_session(house.url, node="lab") as target,
            ):
                return await gw.transfer(source, args[0], target, *args[1:], **options)

        return trio.run(run)

    return blocking if request.param == "blocking" else in_trio


def test_what_is_on_one_node_goes_to_another(between: Transfer, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "large").write_bytes(LARGE)
    (source / "small").write_bytes(b"small")
    seen: list[Progress] = []
    assert between(str(source), str(target), progress=seen.append) == (2, len(LARGE) + 5, 0, ())
    assert (target / "sub" / "large").read_bytes() == LARGE
    assert (target / "small").read_bytes() == b"small"
    assert seen[-1][1:] == (len(LARGE) + 5,) * 2


def test_between_nodes_too_what_was_broken_off_goes_on(between: Transfer, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LARGE)

    def enough(progress: Progress) -> None:
        if progress.done > CHUNK:
            raise Enough

    with pytest.raises(Enough):
        between(str(source), str(target), progress=enough)
    assert not target.exists()
    assert between(str(source), str(target)).resumed >= CHUNK
    assert target.read_bytes() == LARGE


def test_between_nodes_the_one_with_the_trouble_is_heard(between: Transfer, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)

    def shorten(progress: Progress) -> None:
        os.truncate(source, 1)

    with pytest.raises(OSError, match="shorter") as caught:
        between(str(source), str(tmp_path / "target"), progress=shorten)
    assert caught.value.filename == str(source)
    assert not (tmp_path / "target").exists()


def test_sessions_of_two_faces_do_not_mix(house: House) -> None:
    async def run(source: Any) -> None:
        async with gw.open_session(house.url, node="lab") as target:
            gw.transfer(source, "x", target, "y")

    with house.connect() as source, pytest.raises(TypeError, match="of the same"):
        trio.run(run, source)


# -- what is there already


def test_files_that_are_there_stay_if_nothing_is_to_be_replaced(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    for place, names in (("source", "ab"), ("target", "bc")):
        (tmp_path / place).mkdir()
        for name in names:
            (tmp_path / place / name).write_bytes(place.encode())
    (tmp_path / "target" / "b").unlink()
    (tmp_path / "target" / "b").symlink_to("nowhere")
    done = transfer(way, str(tmp_path / "source"), str(tmp_path / "target"), replace=False)
    assert done.files == 1
    assert (tmp_path / "target" / "a").read_bytes() == b"source"
    assert (tmp_path / "target" / "b").is_symlink()
    assert transfer(way, str(tmp_path / "source" / "a"), str(tmp_path / "target" / "c"), replace=False).files == 0
    assert (tmp_path / "target" / "c").read_bytes() == b"target"


def test_a_directory_that_was_broken_off_goes_on_with_what_is_not_whole(
    way: Any, transfer: Transfer, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    for name in "abc":
        (tmp_path / "source" / name).write_bytes(name.encode() + LARGE)

    def enough(progress: Progress) -> None:
        if progress.path == "c":
            raise Enough

    with pytest.raises(Enough):
        transfer(way, str(tmp_path / "source"), str(tmp_path / "target"), progress=enough)
    whole = {name: (tmp_path / "target" / name).stat().st_ino for name in "ab"}
    assert transfer(way, str(tmp_path / "source"), str(tmp_path / "target")).resumed >= 2 * (len(LARGE) + 1)
    assert {name: (tmp_path / "target" / name).stat().st_ino for name in "ab"} == whole
    assert sorted(os.listdir(tmp_path / "target")) == ["a", "b", "c"]


def test_a_private_directory_stays_private(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    inner = tmp_path / "source" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").write_bytes(b"1")
    inner.chmod(0o500)
    (tmp_path / "source").chmod(0o700)
    for place in (inner, tmp_path / "source"):
        os.utime(place, ns=(10**18, 10**18))
    transfer(way, str(tmp_path / "source"), str(tmp_path / "target"))
    for place, mode in ((tmp_path / "target", 0o700), (tmp_path / "target" / "inner", 0o500)):
        assert (place.stat().st_mode & 0o777, place.stat().st_mtime_ns) == (mode, 10**18)


def test_a_directory_that_is_there_keeps_its_permissions(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir(mode=0o700)
    (tmp_path / "target").mkdir()
    (tmp_path / "target").chmod(0o1777)
    transfer(way, str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").stat().st_mode & 0o7777 == 0o1777


# -- what changes meanwhile, and what is odd


def test_what_vanishes_from_a_directory_is_told(
    way: Any, transfer: Transfer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is small or large."""
    source = tmp_path / "source"
    source.mkdir()
    for name, data in {"a": b"1", "b": b"2", "c": LARGE, "d": LARGE}.items():
        (source / name).write_bytes(data)

    def choose(path: str) -> bool:
        if path in ("b", "d"):
            (source / path).unlink()
        return True

    done = transfer(way, str(source), str(tmp_path / "target"), choose)
    assert done == (2, 1 + len(LARGE), 0, (f"{source}/b", f"{source}/d"))
    assert sorted(os.listdir(tmp_path / "target")) == ["a", "c"]


def test_a_file_that_grows_comes_as_long_as_it_was(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(LARGE)

    def grow(_: Progress) -> None:
        with source.open("ab") as log:
            log.write(b"more")

    transfer(way, str(source), str(tmp_path / "target"), progress=grow)
    assert (tmp_path / "target").read_bytes() == LARGE


def test_a_file_that_shrinks_is_an_error_and_changes_nothing(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(LARGE)
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(OSError, match="shorter"):
        transfer(way, str(source), str(tmp_path / "target"), progress=lambda _: os.truncate(source, 1))
    assert (tmp_path / "target").read_bytes() == b"old"


def test_of_names_that_are_one_at_the_target_none_takes_the_place_of_the_other(
    way: Any, transfer: Transfer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows and macOS."""
    for name in ("Makefile", "makefile", "other"):
        (tmp_path / "source" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_bytes(b"1")
    assert transfer(way, str(tmp_path / "source"), str(tmp_path / "target")).files == 3
    text = transfers.store_text()
    folding = text.replace("basename(probe).swapcase()", "basename(probe)")
    assert folding != text
    monkeypatch.setattr(transfers, "store_text", lambda: folding)
    monkeypatch.setattr(Store, "folds", lambda self, path: True)
    with pytest.raises(FileExistsError, match="Makefile and makefile are the same"):
        transfer(way, str(tmp_path / "source"), str(tmp_path / "another"))
    assert not os.listdir(tmp_path / "another")


def test_names_that_are_no_text_arrive_as_they_are(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff\xfe-\n name")
    (tmp_path / odd).mkdir()
    (tmp_path / odd / odd).write_bytes(b"1")
    transfer(way, str(tmp_path / odd), str(tmp_path / (odd + "2")))
    assert (tmp_path / (odd + "2") / odd).read_bytes() == b"1"


def test_what_cannot_be_read_is_told_with_its_name(way: Any, transfer: Transfer, tmp_path: Path) -> None:
    """Root may read everything but this."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "unreadable").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="unreadable") as caught:
        transfer(way, str(tmp_path / "source"), str(tmp_path / "target"))
    assert caught.value.errno == errno.EIO
    assert not os.listdir(tmp_path / "target")


# -- a break at any moment


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_whatever_step_is_the_last_one_nothing_half_is_left(
    data: bytes, way: Any, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of the far side is the one whose time is over: once before it is made, once when its answer is lost."""
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(data)
    there = faces._Blocking.there
    calls = 0

    def tear(last: int, moment: str) -> None:
        async def torn(self: Any, function: Any, *args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == last and moment == "before":
                raise gw.TimedOut
            answer = await there(self, function, *args)
            if calls == last:
                raise gw.TimedOut
            return answer

        monkeypatch.setattr(faces._Blocking, "there", torn)

    for last in itertools.count(1):
        for moment in ("before", "behind"):
            calls = 0
            tear(last, moment)
            with house.connect() as conn:
                try:
                    way(conn, str(source), str(target))
                except gw.TimedOut:
                    pass
                else:
                    assert last > 4
                    return
                for file in target.rglob("file"):
                    assert file.read_bytes() == data
                monkeypatch.setattr(faces._Blocking, "there", there)
                assert way(conn, str(source), str(target)).files == 1
            assert [file.name for file in target.rglob("*")] == ["sub", "file"]
            shutil.rmtree(target)
