"""The files of one side of a transfer, without the other side."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import stat
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from rpyc_gateway import filestore
from rpyc_gateway.filestore import Store
from rpyc_gateway.incoming import CHUNK, inside

FACTS = (0o640, 10**18)
DATA = os.urandom(CHUNK * 2 + 5)


def write(place: Path, data: bytes, *, at: int = 0) -> Any:
    incoming, have, _ = Store().incoming(str(place), (), len(data), FACTS)
    assert have == at
    incoming.take(at, [data[at:]])
    return incoming


def test_what_was_there_is_there_until_all_has_come(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"old")
    incoming = write(place, DATA)
    assert place.read_bytes() == b"old"
    incoming.finish(incoming.digest(), FACTS)
    assert place.read_bytes() == DATA
    assert (place.stat().st_mode & 0o777, place.stat().st_mtime_ns) == FACTS
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_not_what_was_sent_never_gets_the_name(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"old")
    incoming = write(place, DATA)
    with pytest.raises(OSError, match="not what was sent") as caught:
        incoming.finish(b"another digest", FACTS)
    assert caught.value.filename == str(place)
    assert place.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_came_before_a_break_is_told_with_its_digest(tmp_path: Path) -> None:
    write(tmp_path / "file", DATA[:-5]).close()
    source = tmp_path / "source"
    source.write_bytes(DATA)
    with closing(Store().outgoing(str(source), ())[0]) as outgoing:
        incoming, have, digest = Store().incoming(str(tmp_path / "file"), (), len(DATA), FACTS)
        assert (have, digest) == (len(DATA) - 5, outgoing.digest(have))
        incoming.take(have, outgoing.chunks())
        incoming.finish(outgoing.end(), FACTS)
    assert (tmp_path / "file").read_bytes() == DATA


def test_more_than_there_is_to_come_is_of_another_file(tmp_path: Path) -> None:
    write(tmp_path / "file", DATA).close()
    incoming, have, _ = Store().incoming(str(tmp_path / "file"), (), 10, FACTS)
    assert have == 0
    incoming.take(0, [b"0123456789"])
    incoming.finish(incoming.digest(), FACTS)
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_of_what_nobody_can_go_on_with_nothing_stays_when_whoever_sent_it_is_gone(tmp_path: Path) -> None:
    incoming = Store().anew(str(tmp_path / "file"))
    incoming.take(0, [DATA])
    del incoming
    assert os.listdir(tmp_path) == []
    incoming = Store().anew(str(tmp_path / "file"))
    incoming.take(0, [DATA])
    incoming.finish(incoming.digest(), FACTS)
    assert (tmp_path / "file").read_bytes() == DATA


def test_of_two_transfers_into_one_file_the_second_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "file", DATA)
    with pytest.raises(BlockingIOError, match="another transfer") as caught:
        Store().incoming(str(tmp_path / "file"), (), 1, FACTS)
    assert caught.value.filename == str(tmp_path / "file")
    first.close()
    write(tmp_path / "file", DATA, at=len(DATA)).close()


def test_a_file_that_has_just_got_its_name_is_not_taken_for_the_part_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "file", DATA)
    lock = fcntl.flock

    def finish_first(file: Any, how: int) -> None:
        monkeypatch.undo()
        first.finish(first.digest(), FACTS)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", finish_first)
    incoming, have, _ = Store().incoming(str(tmp_path / "file"), (), 10, FACTS)
    assert have == 0
    incoming.close()
    assert (tmp_path / "file").read_bytes() == DATA


def test_a_file_that_grows_is_read_up_to_where_it_ended(tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.write_bytes(b"abc")
    with closing(Store().outgoing(str(place), ())[0]) as outgoing:
        with place.open("ab") as log:
            log.write(b"more")
        assert b"".join(outgoing.chunks()) == b"abc"


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.write_bytes(b"abc")
    with closing(Store().outgoing(str(place), ())[0]) as outgoing:
        place.write_bytes(b"")
        with pytest.raises(OSError, match="shorter"):
            list(outgoing.chunks())


def test_without_room_what_has_come_is_given_up(tmp_path: Path) -> None:
    """Under a limit for the size of files, which is like a full disk. In a process of its own, since it is for good."""
    script = f"""
import resource, sys
from rpyc_gateway.filestore import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
incoming, _, _ = Store().incoming({str(tmp_path / "file")!r}, (), 5000, (0o600, 0))
try: incoming.take(0, [bytes(900), bytes(4100)])
except OSError as error: print(error.errno)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == f"{errno.EFBIG}\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0b"])
def test_a_name_that_would_lead_out_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="refused") as caught:
        Store().write_small(str(tmp_path / "into"), [(("sub", name), b"", FACTS)])
    assert caught.value.errno == errno.EINVAL
    assert os.listdir(tmp_path) == []


def test_nothing_is_written_through_a_link_that_leads_out(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "link").symlink_to("..")
    with pytest.raises(OSError, match="through it") as caught:
        inside(str(tmp_path / "into"), ("link", "file"))
    assert caught.value.errno == errno.ELOOP


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("precious")
    Store().write_small(str(tmp_path), [(("link",), b"new", FACTS)])
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_of_a_tree_links_and_special_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"four")
    (tmp_path / "also").symlink_to("sub/file")
    (tmp_path / "round").symlink_to(".")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / ".file.gw-part").write_bytes(b"fo")
    (tmp_path / "sub").chmod(0o2750)
    os.utime(tmp_path / "sub", ns=(10**18, 10**18))
    ((directories, files, passed, others),) = Store().tree(str(tmp_path))
    assert [names for names, _ in directories] == [(), ("sub",)]
    assert directories[1][1] == (0o750, 10**18)
    assert files == ((("also",), 4), (("sub", "file"), 4))
    assert passed == (str(tmp_path / ".file.gw-part"), str(tmp_path / "round"))
    assert others == (str(tmp_path / "pipe"),)


def test_a_tree_is_told_in_pieces_with_parents_before_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filestore, "LISTED", 3)
    for name in "abcdefg":
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    pieces = list(Store().tree(str(tmp_path)))
    assert all(sum(map(len, piece)) <= 3 for piece in pieces)
    directories = [names for piece in pieces for names, _ in piece[0]]
    assert len(directories) == 15
    assert all(names[:-1] in directories[:number] for number, names in enumerate(directories) if names)
    assert [names[0] for piece in pieces for names, _ in piece[1]] == list("abcdefg")


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127])
def test_a_file_may_have_as_long_a_name_as_there_are(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, DATA[:5]).close()
    incoming, have, _ = Store().incoming(str(tmp_path / name), (), 5, FACTS)
    assert have == 5
    incoming.finish(incoming.digest(), FACTS)
    assert os.listdir(tmp_path) == [name]


def test_a_directory_in_its_place_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError, match="a directory is where the file is to go") as caught:
        Store().write_small(str(tmp_path), [(("file",), b"1", FACTS)])
    assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_a_path_without_a_name_is_no_file() -> None:
    with pytest.raises(FileNotFoundError, match="no name for a file"):
        Store().incoming("", (), 1, FACTS)


def test_a_file_system_without_permissions_gets_the_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refused)
    Store().write_small(str(tmp_path), [(("file",), b"1", FACTS)])
    assert (tmp_path / "file").read_bytes() == b"1"


def test_an_unfinished_file_of_somebody_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would have it open, and own it, when it is in its place."""
    (tmp_path / ".file.gw-part").write_bytes(DATA[:5])
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with (tmp_path / ".file.gw-part").open("r+b") as theirs:
        incoming = write(tmp_path / "file", DATA)
        incoming.finish(incoming.digest(), FACTS)
        theirs.write(b"evil")
    assert (tmp_path / "file").read_bytes() == DATA


def test_what_cannot_be_put_in_its_place_can_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is to be read-only."""

    def refused(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    incoming = write(tmp_path / "file", DATA)
    monkeypatch.setattr(os, "replace", refused)
    with closing(incoming), pytest.raises(PermissionError):
        incoming.finish(incoming.digest(), (0o400, 0))
    assert (tmp_path / ".file.gw-part").stat().st_mode & 0o777 == 0o600


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    with closing(Store().incoming(str(tmp_path / "file"), (), 1, FACTS)[0]) as incoming:
        own = incoming._file
        with open("/dev/full", "r+b", buffering=0) as full:
            incoming._file = full
            with pytest.raises(OSError, match="No space left") as caught:
                incoming.write(b"1")
        own.close()
    assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_what_is_whole_in_its_place_already_is_known_by_its_time_and_its_digest(tmp_path: Path) -> None:
    """So a directory of large files that was broken off goes on with the one that was not whole."""
    incoming = write(tmp_path / "file", DATA)
    incoming.finish(incoming.digest(), FACTS)
    again, have, digest = Store().incoming(str(tmp_path / "file"), (), len(DATA), FACTS)
    assert have == len(DATA)
    before = (tmp_path / "file").stat().st_ino
    again.take(have, [])
    again.finish(digest, (0o600, FACTS[1]))
    assert (tmp_path / "file").stat().st_ino == before
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("another", [(len(DATA) + 1, FACTS), (len(DATA), (0o640, 1))], ids=["size", "time"])
def test_what_has_another_size_or_time_is_not_taken_for_it(another: Any, tmp_path: Path) -> None:
    incoming = write(tmp_path / "file", DATA)
    incoming.finish(incoming.digest(), FACTS)
    again, have, _ = Store().incoming(str(tmp_path / "file"), (), *another)
    again.close()
    assert have == 0


def test_what_looks_the_same_and_is_not_is_written_anew(tmp_path: Path) -> None:
    incoming = write(tmp_path / "file", DATA)
    incoming.finish(incoming.digest(), FACTS)
    again, _, _ = Store().incoming(str(tmp_path / "file"), (), len(DATA), FACTS)
    again.take(0, [DATA[::-1]])
    again.finish(again.digest(), FACTS)
    assert (tmp_path / "file").read_bytes() == DATA[::-1]
    assert os.listdir(tmp_path) == ["file"]


def test_no_more_is_taken_than_there_was_to_come(tmp_path: Path) -> None:
    """A far side that never stops would fill the disk."""
    incoming, _, _ = Store().incoming(str(tmp_path / "file"), (), 10, FACTS)
    with closing(incoming), pytest.raises(OSError, match="more comes than there was to come"):
        incoming.take(0, itertools.repeat(b"abc"))
    assert not (tmp_path / "file").exists()
    assert (tmp_path / ".file.gw-part").stat().st_size == 9


class Chameleon(str):
    """A name that is another one when it is used."""

    __slots__ = ()

    def __iter__(self) -> Any:
        return iter("harmless")


class Changing(list[str]):
    """Names that are others when they are used."""

    __slots__ = ()

    def __iter__(self) -> Any:
        yield self.pop()


@pytest.mark.parametrize("names", [(Chameleon("../evil"),), Changing(["..", "harmless"])], ids=["name", "names"])
def test_names_must_be_texts_and_nothing_that_only_looks_like_them(names: Any, tmp_path: Path) -> None:
    with suppress(OSError):
        assert inside(str(tmp_path), names) == str(tmp_path / "harmless")


def test_nobody_sends_a_file_that_runs_as_somebody_else(tmp_path: Path) -> None:
    Store().write_small(str(tmp_path), [(("file",), b"1", (0o6755, 10**18))])
    made = Store().make_directories(str(tmp_path / "into"), [((), (0o7755, 10**18))])
    Store().finish_directories(str(tmp_path / "into"), made)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "into").stat().st_mode) == 0o755


def test_a_time_that_no_file_can_have_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot have been modified") as caught:
        Store().write_small(str(tmp_path), [(("file",), b"1", (0o644, 10**40))])
    assert caught.value.errno == errno.EINVAL
    assert not (tmp_path / "file").exists()


def test_one_small_file_that_cannot_be_written_stops_none_of_those_before_it(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(IsADirectoryError):
        Store().write_small(str(tmp_path), [((name,), b"1", FACTS) for name in "abcd"])
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


def test_many_small_files_are_open_a_few_at_a_time(tmp_path: Path) -> None:
    script = f"""
import resource
from rpyc_gateway.filestore import TOGETHER, Store
resource.setrlimit(resource.RLIMIT_NOFILE, (TOGETHER + 20, TOGETHER + 20))
Store().write_small({str(tmp_path)!r}, [((str(n),), b"1", (0o644, 0)) for n in range(3 * TOGETHER)])
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(os.listdir(tmp_path)) == 3 * filestore.TOGETHER


@pytest.mark.parametrize("prompt", [60.0, 0.0], ids=["memory", "disk"])
def test_each_small_file_is_brought_to_the_disk_before_it_gets_its_name(
    prompt: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other where that takes no time, else in threads."""
    synced: set[int] = set()
    threads: set[threading.Thread] = set()
    replace = os.replace

    def sync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        threads.add(threading.current_thread())

    def placed(part: str, path: str) -> None:
        assert os.stat(part).st_ino in synced
        replace(part, path)

    monkeypatch.setattr(filestore, "PROMPT", prompt)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", placed)
    Store().write_small(str(tmp_path), [((name,), b"1", FACTS) for name in "abc"])
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
    assert (len(threads) == 1) == (prompt > 0)


def test_directories_get_their_permissions_and_times_when_they_are_full(tmp_path: Path) -> None:
    directories = (((), (0o750, 10**18)), (("read-only",), (0o500, 2 * 10**18)))
    made = Store().make_directories(str(tmp_path / "into"), directories)
    assert made == directories
    assert (tmp_path / "into").stat().st_mode & 0o077 == 0o050
    Store().write_small(str(tmp_path / "into"), [(("read-only", "file"), b"1", FACTS)])
    Store().finish_directories(str(tmp_path / "into"), made[::-1])
    for place, (mode, modified) in (
        (tmp_path / "into", directories[0][1]),
        (tmp_path / "into/read-only", directories[1][1]),
    ):
        assert (place.stat().st_mode & 0o777, place.stat().st_mtime_ns) == (mode, modified)
    assert Store().make_directories(str(tmp_path / "into"), directories) == ()


def test_a_file_that_has_become_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no file any more"):
        Store().read_small(str(tmp_path), [(("pipe",), 5)])


def test_what_has_vanished_from_a_directory_is_nothing_and_a_file_that_has_vanished_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"1")
    contents, nothing = Store().read_small(str(tmp_path), [(("there",), 1), (("gone",), 1)])
    assert contents is not None
    assert contents[0] == b"1"
    assert nothing is None
    with pytest.raises(FileNotFoundError, match="gone"):
        Store().read_small(str(tmp_path / "gone"), [((), 1)])


def test_files_that_do_not_say_how_much_is_in_them_are_read_all_the_same() -> None:
    """As those in /proc."""
    kind, size = Store().kind("/proc/self/status")
    ((data, _),) = Store().read_small("/proc/self/status", [((), size)])
    assert (kind, size) == ("file", 0)
    assert data.startswith(b"Name:")


def test_where_nothing_can_be_written_the_file_is_named_that_was_to_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Store().incoming(str(tmp_path / "nowhere" / "file"), (), 1, FACTS)
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")
