"""`rpyc-gw cp`: files to a node two links away, and back."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from rpyc_gateway.cli.cp import GOES_ON, Place, place
from rpyc_gateway.incoming import CHUNK
from tests.chains.processes import wait_until
from tests.running import chain


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        with chain() as hq:
            yield hq.url


def command(url: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "rpyc_gateway", "cp", "--url", url, *map(str, arguments)]


def cp(
    url: str, *arguments: object, here: Path | None = None, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(url, *arguments), capture_output=True, text=True, timeout=30, check=False, cwd=here, input=given
    )


def test_files_go_there_and_come_back(url: str, tmp_path: Path) -> None:
    (tmp_path / "a:b").write_bytes(b"1")
    (tmp_path / "c").write_bytes(b"2")
    (tmp_path / "there").mkdir()
    done = cp(url, "./a:b", "c", f"lab:{tmp_path}/there", here=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(os.listdir(tmp_path / "there")) == ["a:b", "c"]
    assert cp(url, f"lab:{tmp_path}/there/c", "back", here=tmp_path).returncode == 0
    assert (tmp_path / "back").read_bytes() == b"2"


def test_without_a_path_it_goes_to_the_home_directory_there(url: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"2")
    assert cp(url, "c", "lab:", here=tmp_path).returncode == 0
    assert (home / "c").read_bytes() == b"2"
    assert cp(url, "lab:~/c", "back", here=tmp_path).returncode == 0
    assert (tmp_path / "back").read_bytes() == b"2"


def test_a_directory_goes_into_one_that_is_there_and_becomes_one_that_is_not(url: str, tmp_path: Path) -> None:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").write_bytes(b"1")
    for source, target in ((tmp_path / "tree", f"lab:{tmp_path}/far"), (f"lab:{tmp_path}/tree", tmp_path / "near")):
        place = Path(str(target).removeprefix("lab:"))
        assert "-r copies those" in cp(url, source, target).stderr
        assert not place.exists()
        for inside in ("sub/file", "tree/sub/file"):
            assert cp(url, "-r", source, target).returncode == 0
            assert (place / inside).read_bytes() == b"1"


def test_files_go_from_node_to_node_by_patterns_too(url: str, tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.txt", "[x].log"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "there").mkdir()
    done = cp(url, f"lab:{tmp_path}/*.log", tmp_path / "c.txt", f"lab:{tmp_path}/there")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(os.listdir(tmp_path / "there")) == ["[x].log", "a.log", "b.log", "c.txt"]
    assert (tmp_path / "there" / "b.log").read_bytes() == b"b.log"
    assert cp(url, f"lab:{tmp_path}/[x].log", f"lab:{tmp_path}/one").returncode == 0
    assert (tmp_path / "one").read_bytes() == b"[x].log"


def test_the_trouble_of_one_source_leaves_none_of_the_others_here(url: str, tmp_path: Path) -> None:
    for name in ("a", "sub/a", "z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    os.mkfifo(tmp_path / "sub" / "pipe")
    (tmp_path / "there").mkdir()
    sources = ("a", "missing", "sub/a", "sub", "sub/pipe", "z")
    done = cp(url, "-r", *sources, f"lab:{tmp_path}/there", here=tmp_path)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert len(told) == 4
    assert "No such file or directory: 'missing'" in told[0]
    assert "sub/a would take the place of what has just been copied" in told[1]
    assert "left out" in told[2]
    assert told[2].endswith("sub/pipe")
    assert told[3].endswith("sub/pipe")
    assert (tmp_path / "there" / "a").read_bytes() == b"a"
    assert sorted(file.name for file in (tmp_path / "there").rglob("*")) == ["a", "a", "sub", "z"]


def test_files_that_are_there_are_replaced_or_stay(url: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    there = tmp_path / "there"
    there.write_bytes(b"old")
    there.chmod(0o400)
    assert cp(url, "-f", "-n", "a", f"lab:{there}", here=tmp_path).returncode == 0
    assert cp(url, "-n", "-", f"lab:{there}", here=tmp_path, given="new").returncode == 0
    assert there.read_bytes() == b"old"
    assert cp(url, "a", f"lab:{there}", here=tmp_path).returncode == 0
    assert there.read_bytes() == b"new"


def test_standard_input_becomes_a_file_and_files_become_standard_output(url: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    text = "text\n" * 200_000
    assert cp(url, "-", f"lab:{there}", given=text).returncode == 0
    assert there.read_text() == text
    there.chmod(0o600)
    assert cp(url, "-", f"lab:{there}", given="private").returncode == 0
    assert (there.read_text(), there.stat().st_mode & 0o777) == ("private", 0o600)
    (tmp_path / "large").write_text(text)
    done = cp(url, f"lab:{there}", f"lab:{tmp_path}/large", "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "private" + text, "")
    assert sorted(os.listdir(tmp_path)) == ["large", "there"]


def test_of_standard_input_nothing_is_kept_when_it_is_broken_off(url: str, tmp_path: Path) -> None:
    with subprocess.Popen(command(url, "-", f"lab:{tmp_path}/there"), stdin=subprocess.PIPE) as copying:
        assert copying.stdin is not None
        copying.stdin.write(bytes(2 * CHUNK))
        copying.stdin.flush()
        trio.run(wait_until, lambda: (part := tmp_path / ".there.gw-part").exists() and part.stat().st_size)
        copying.send_signal(signal.SIGINT)
        assert copying.wait(30) == 130
    assert os.listdir(tmp_path) == []


def test_what_is_wrong_is_said(url: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    for arguments, code, words in (
        (("a", "b"), 2, "one side is NODE:PATH"),
        (("-", "a", f"lab:{tmp_path}"), 2, "there can be no other source"),
        (("-", f"lab:{tmp_path}"), 2, "standard input has no name"),
        (("a", "a", f"lab:{tmp_path}/a"), 2, "is no directory"),
        ((f"lab:{tmp_path}", "-"), 1, "is a directory"),
        ((f"lab:{tmp_path}/missing", "b"), 1, "missing"),
        ((f"lab:{tmp_path}/missing", "-"), 1, "missing"),
        ((f"lab:{tmp_path}/*.missing", "b"), 1, "nothing is called"),
        (("a", f"lab:{tmp_path}/no/a"), 1, "No such file"),
        (("a", "nobody:b"), 69, "nobody"),
    ):
        done = cp(url, *arguments, here=tmp_path)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("way", ["up", "down", "between"])
def test_after_ctrl_c_nothing_half_has_the_name_and_the_same_command_goes_on(
    url: str, tmp_path: Path, way: str
) -> None:
    source, target, part = tmp_path / "source", tmp_path / "target", tmp_path / ".target.gw-part"
    source.touch()
    os.truncate(source, 1 << 32)  # it takes long enough, and nobody is to wait for its end
    target.write_bytes(b"old")
    arguments = {
        "up": (source, f"lab:{target}"),
        "down": (f"lab:{source}", target),
        "between": (f"lab:{source}", f"lab:{target}"),
    }[way]
    with subprocess.Popen(command(url, *arguments), stderr=subprocess.PIPE, text=True) as copying:
        trio.run(wait_until, lambda: part.exists() and part.stat().st_size > 4 * CHUNK)
        copying.send_signal(signal.SIGINT)
        told = copying.communicate(timeout=30)[1]
    assert (copying.returncode, told) == (130, f"{GOES_ON}\n")
    assert target.read_bytes() == b"old"
    size = part.stat().st_size
    os.truncate(source, size + 5)
    inode = part.stat().st_ino
    assert cp(url, *arguments).returncode == 0
    assert (target.stat().st_size, target.stat().st_ino) == (size + 5, inode)
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def test_a_terminal_sees_how_far_it_is(url: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    for options, words in (((), "large: "), (("-q",), "")):
        leader, follower = pty.openpty()
        arguments = (*options, "large", f"lab:{tmp_path}/there{len(options)}")
        done = subprocess.run(command(url, *arguments), stderr=follower, timeout=30, check=False, cwd=tmp_path)
        os.write(follower, b"the end\n")
        os.close(follower)
        shown = os.read(leader, 65536).decode().removesuffix("the end\r\n")
        os.close(leader)
        assert done.returncode == 0
        assert shown.startswith(f"\r{words}") if words else not shown
        assert shown.endswith("\x1b[K" if words else "")


def test_drives_of_windows_are_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place("C:\\x") == Place(None, "C:\\x")
    assert place("./a:b") == Place(None, "./a:b")
    assert place("a:b") == Place("a", "b")
    assert place(":b") == Place("", "b")
    assert place("lab:") == Place("lab", "~")
    monkeypatch.setattr(os, "name", "nt")
    assert place("C:/x") == Place(None, "C:/x")


def test_what_a_place_is_called_in_a_directory() -> None:
    assert [place(text).name for text in ("a/b/", "b", "lab:/a/b", "lab:a", ".", "lab:", "..", "/")] == [
        *("b", "b", "b", "a"),
        *("", "", "", ""),
    ]
