"""Directories of a board with all that is in them: what is to be copied is known, and every name is right, before anything is."""

from __future__ import annotations

import stat
from pathlib import Path

from msgspec import Struct, field

from rpyc_gateway.cli.onboard.files import listing, look, remove, remove_directory
from rpyc_gateway.cli.onboard.interpreters import BoardFailed, Interpreter

__all__ = ["Plan", "local_tree", "remote_tree", "remove_tree"]

DEEPEST = 32  # directories in each other: no board has so many, but one may say so for ever


class Plan(Struct):
    """What is to be copied: directories that are to be there, each behind the one that it is in, and files, here and there."""

    directories: list[tuple[Path, str]] = field(default_factory=list)
    files: list[tuple[Path, str]] = field(default_factory=list)


def local_tree(local: Path, remote: str) -> Plan:
    """The way of a directory of this machine to the board. Raises OSError for what is neither a directory, a file nor a link to a file."""
    plan = Plan([(local, remote)])
    for here, there in plan.directories:  # it grows
        for path in sorted(here.iterdir()):
            to = f"{there.rstrip('/')}/{path.name}" if there else path.name
            if path.is_dir() and not path.is_symlink():
                plan.directories.append((path, to))
            elif stat.S_ISREG(path.stat().st_mode):
                plan.files.append((path, to))
            else:
                raise OSError(f"{path}: is no file and no directory, and cannot be copied; nothing was")
    return plan


async def remote_tree(board: Interpreter, remote: str, local: Path) -> Plan:
    """The way of a directory of the board to this machine. Raises BoardFailed, also for names that would lead out of `local`."""
    plan = Plan([(local, remote)])
    depth = {remote: 0}
    for here, there in plan.directories:  # it grows
        if depth[there] > DEEPEST:
            raise BoardFailed(
                board.name, "", f"{there}: more than {DEEPEST} directories in each other; nothing was copied"
            )
        for name, directory, _ in await listing(board, there):
            if not is_plain(name):
                raise BoardFailed(
                    board.name, "", f"{there}: what it calls {name!r} is no name of a file here; nothing was copied"
                )
            to = f"{there.rstrip('/')}/{name}" if there else name
            depth[to] = depth[there] + 1
            (plan.directories if directory else plan.files).append((here / name, to))
    return plan


def is_plain(name: object) -> bool:
    """Whether this names something in a directory, on any system."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


async def remove_tree(board: Interpreter, path: str) -> None:
    """Remove a file, or a directory with all that is in it. Raises BoardFailed; then a part of it may be gone."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or parts[-1] == "..":
        raise BoardFailed(board.name, "", f"{path or '.'}: is not removed as a whole: say what in it is to go")
    found = await look(board, path)
    if found is None or not stat.S_ISDIR(found[0]):
        await remove(board, path)
        return
    plan = await remote_tree(board, path, Path())
    for _, file in plan.files:
        await remove(board, file)
    for _, directory in reversed(plan.directories):
        await remove_directory(board, directory)
