"""Follow a file on a node as it grows, like `tail -F`: it may be truncated, or replaced by another.

python examples/follow.py unix:///tmp/rpyc-gw-hq.sock lab /var/log/syslog
python examples/follow.py --trio unix:///tmp/rpyc-gw-hq.sock lab /var/log/syslog
python examples/follow.py                   # a file of its own, on a node that it starts

Ctrl-C ends it, and what runs on the node for it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TextIO

import trio

import rpyc_gateway as gw

HERE = f"stdio:{sys.executable} -m rpyc_gateway stdio --name here --serve classic"


def new_lines(path: str) -> Iterator[str]:
    """Runs on the node, where it needs nothing but the standard library: what is written from now on."""

    def opened() -> TextIO:
        return open(path, encoding="utf-8", errors="replace")

    def lines(file: TextIO) -> Iterator[str]:
        while True:
            yield from file
            time.sleep(0.1)
            now, ours = os.stat(path), os.fstat(file.fileno())
            if now.st_ino != ours.st_ino or now.st_size < file.tell():
                file.close()
                file = opened()

    file = opened()
    file.seek(0, os.SEEK_END)
    return lines(file)


def follow(url: str, node: str | None, path: str) -> None:
    with gw.connect(url, node=node) as conn:
        for line in conn.teleport(new_lines)(path):
            print(line, end="", flush=True)


async def follow_in_trio(url: str, node: str | None, path: str) -> None:
    async with gw.open_session(url, node=node) as lab:
        there = await gw.teleport(lab, new_lines)
        async for line in there(path):
            print(line, end="", flush=True)


def follow_own_file() -> None:
    with tempfile.NamedTemporaryFile("w") as file, gw.connect(HERE) as conn:
        lines = iter(conn.teleport(new_lines)(file.name))
        for number in (1, 2):
            print(f"line {number}", file=file, flush=True)
            print(next(lines), end="")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["--trio", url, node, path]:
                trio.run(follow_in_trio, url, node, path)
            case [url, node, path]:
                follow(url, node, path)
            case _:
                follow_own_file()
