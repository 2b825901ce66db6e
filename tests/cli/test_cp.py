"""`rpyc-gw cp`: files to a node two links away, and back."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpyc_gateway.cli.cp import Place, place
from tests.running import chain


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with chain() as hq:
        yield hq.url


def cp(url: str, *arguments: object, here: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rpyc_gateway", "cp", "--url", url, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=here)


def test_files_go_there_and_come_back(url: str, tmp_path: Path) -> None:
    (tmp_path / "a:b").write_bytes(b"1")
    (tmp_path / "c").write_bytes(b"2")
    (tmp_path / "there").mkdir()
    done = cp(url, "./a:b", "c", f"lab:{tmp_path}/there", here=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(os.listdir(tmp_path / "there")) == ["a:b", "c"]
    assert cp(url, f"lab:{tmp_path}/there/c", "back", here=tmp_path).returncode == 0
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


def test_what_is_wrong_is_said(url: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    for arguments, code, words in (
        (("lab:a", "lab:b"), 2, "both sides are on nodes"),
        (("a", "b"), 2, "one side is NODE:PATH"),
        (("a", "a", f"lab:{tmp_path}/a"), 2, "is no directory"),
        ((f"lab:{tmp_path}/missing", "b"), 1, "missing"),
        (("a", f"lab:{tmp_path}/no/a"), 1, "No such file"),
        (("a", "nobody:b"), 69, "nobody"),
    ):
        done = cp(url, *arguments, here=tmp_path)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["a"]


def test_a_terminal_sees_how_far_it_is(url: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "rpyc_gateway", "cp", "--url", url, "large", f"lab:{tmp_path}/there"]
    done = subprocess.run(command, stderr=follower, timeout=30, check=False, cwd=tmp_path)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert done.returncode == 0
    assert "large: " in shown
    assert shown.endswith("\x1b[K")


def test_drives_of_windows_are_no_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place("C:\\x") == Place(None, "C:\\x")
    assert place("./a:b") == Place(None, "./a:b")
    assert place("a:b") == Place("a", "b")
    assert place(":b") == Place("", "b")
    assert place("lab:") == Place("lab", "~")
    monkeypatch.setattr(os, "name", "nt")
    assert place("C:/x") == Place(None, "C:/x")
