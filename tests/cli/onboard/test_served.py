"""What a directory of this machine answers to a board that may ask anything."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.cli.onboard.served import ENTRIES, OPEN, ServedDirectory


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a secret beside it, and links of all kinds."""
    around = tmp_path_factory.mktemp("around")
    (around / "secret").write_bytes(b"secret")
    root = around / "root"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"0123456789")
    (root / "sub" / "deep").write_bytes(b"deep")
    (root / "inner").symlink_to("sub/deep")
    (root / "outer").symlink_to(around / "secret")
    (root / "up").symlink_to("..")
    (root / "absolute").symlink_to(around)
    (root / "loop").symlink_to("loop")
    (root / "gone").symlink_to(around / "gone")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture(params=[True, False], ids=["writable", "read only"])
def served(request: pytest.FixtureRequest, root: Path) -> Iterator[ServedDirectory]:
    served = ServedDirectory(root, writable=request.param)
    yield served
    served.close()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../secret", errno.EACCES),
        ("/../secret", errno.EACCES),
        ("/sub/../../secret", errno.EACCES),
        ("/outer", errno.EACCES),
        ("/up/secret", errno.EACCES),
        ("/absolute/secret", errno.EACCES),
        ("/gone", errno.EACCES),
        ("/missing", errno.ENOENT),
        ("/file/x", errno.ENOTDIR),
        ("/sub", errno.EISDIR),
        ("/", errno.EISDIR),
        ("/pipe", errno.EACCES),
        ("/\0", errno.EINVAL),
        ("/" + "x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_what_is_not_to_be_had_has_its_number(served: ServedDirectory, path: str, error: int) -> None:
    assert served.answer("open", path, "rb") == (error, None)


def test_links_inside_and_detours_lead_to_files(served: ServedDirectory) -> None:
    for path in ("/sub/deep", "/inner", "sub/../inner", "//sub/./deep"):
        code, handle = served.answer("open", path, "r")
        assert (code, served.answer("read", handle, 10)) == (0, (0, b"deep"))
        assert served.answer("close", handle) == (0, None)


def test_a_read_only_directory_stays_as_it_is(root: Path) -> None:
    served = ServedDirectory(root, writable=False)
    before = sorted(root.rglob("*"))
    assert (served.answer("open", "/nothing", "r"), served.refused) == ((errno.ENOENT, None), False)
    for request in (
        ("open", "/file", "w"),
        ("open", "/file", "r+"),
        ("open", "/new", "a"),
        ("mkdir", "/new"),
        ("remove", "/file"),
        ("rmdir", "/sub"),
        ("rename", "/file", "/new"),
        ("write", 0, b"x"),
    ):
        assert served.answer(*request) == (errno.EROFS, None)
        assert served.refused
        served.refused = False
    assert sorted(root.rglob("*")) == before
    assert (root / "file").read_bytes() == b"0123456789"


def test_a_writable_one_is_changed_within_itself_only(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"kept")
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "file").symlink_to(tmp_path / "kept")
    served = ServedDirectory(root, writable=True)
    assert served.answer("open", "/out/kept", "w") == (errno.EACCES, None)
    assert served.answer("open", "/file", "w") == (errno.EACCES, None)
    assert served.answer("remove", "/out/kept") == (errno.EACCES, None)
    assert served.answer("mkdir", "/out/new") == (errno.EACCES, None)
    assert served.answer("rmdir", "/") == (errno.EACCES, None)
    assert served.answer("mkdir", "/new") == (0, None)
    assert served.answer("rename", "/new", "/out/new") == (errno.EACCES, None)
    code, handle = served.answer("open", "/new/file", "w+b")
    assert (code, served.answer("write", handle, b"0123")) == (0, (0, 4))
    assert served.answer("seek", handle, 1, 0) == (0, 1)
    assert served.answer("read", handle, 2) == (0, b"12")
    assert served.answer("rmdir", "/new") == (errno.ENOTEMPTY, None)
    assert served.answer("rename", "/new/file", "/other") == (0, None)
    assert served.answer("remove", "/other") == (0, None)
    assert served.answer("remove", "/file") == (0, None)  # the link, not what it leads to
    served.close()
    assert (tmp_path / "kept").read_bytes() == b"kept"
    assert sorted(os.listdir(tmp_path)) == ["kept", "root"]


def test_a_long_directory_comes_in_parts_and_links_that_leave_it_cannot_be_opened(tmp_path: Path) -> None:
    for number in range(ENTRIES + 3):
        (tmp_path / f"{number:02}").write_bytes(bytes(number))
    (tmp_path / "98").symlink_to("/etc/passwd")
    os.mkdir(os.fsencode(tmp_path) + b"/99\xff")
    served = ServedDirectory(tmp_path, writable=False)
    first = served.answer("list", "/", 0)[1]
    rest = served.answer("list", "/", len(first))[1]
    assert served.answer("list", "/", len(first + rest)) == (0, ())
    assert [(name, size) for name, kind, _, size in first + rest if kind == 0x8000] == [
        (f"{number:02}", number) for number in range(ENTRIES + 3)
    ]
    assert (first + rest)[-2:] == (("98", 0, 0, 0), ("99?", 0, 0, 0))


def test_a_board_has_no_more_files_open_than_it_may(root: Path) -> None:
    served = ServedDirectory(root, writable=False)
    handles = [served.answer("open", "/file", "r")[1] for _ in range(OPEN)]
    assert served.answer("open", "/file", "r") == (errno.EMFILE, None)
    served.answer("close", handles[3])
    assert served.answer("open", "/file", "r") == (0, 3)
    served.close()
    assert served.answer("read", 3, 1) == (errno.EBADF, None)


VERBS = st.sampled_from(
    ["open", "read", "seek", "close", "stat", "enter", "list", "space", "ping", "mkdir", "remove", "rename", "nothing"]
)
NAMES = st.lists(st.sampled_from(["..", ".", "", "sub", "file", "up", "outer", "absolute", "loop", "pipe", "\0"])).map(
    "/".join
)
ANYTHING = NAMES | st.integers() | st.none() | st.binary(max_size=3) | st.sampled_from(["r", "w", "rb", "r+", "xyz"])


@given(verb=VERBS | ANYTHING, args=st.lists(ANYTHING, max_size=4))
def test_whatever_is_asked_is_answered_and_no_secret_is_told(root: Path, verb: Any, args: list[Any]) -> None:
    served = ServedDirectory(root, writable=False)
    code, value = served.answer(verb, *args)
    assert isinstance(code, int)
    if verb == "open" and code == 0:
        assert served.answer("read", value, 100)[1] in (b"0123456789", b"deep")
    assert "secret" not in str(value)
    served.close()
    assert sorted(os.listdir(root.parent)) == ["root", "secret"]
