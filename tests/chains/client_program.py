"""What a user of the lab does, in a process of its own: python client_program.py NODE URL...

Prints what came of it, in both faces, as one JSON object; test_namespaces.py runs it where the lab cannot be reached.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import trio

import rpyc_gateway as gw

DEFINE = "import socket\ndef interfaces(): return tuple(name for _, name in socket.if_nameindex())\ndef twice(f, x): return f(f(x))"


def use(node: str, urls: list[str]) -> dict[str, Any]:
    with gw.connect(urls, node=node, name="me") as conn:
        conn.execute(DEFINE)
        told = {
            "path": conn.path,
            "pid": conn.modules.os.getpid(),
            "interfaces": conn.namespace["interfaces"](),
            "callback": conn.namespace["twice"](lambda n: n + 1, 40),
        }
        try:
            conn.builtins.open("/no/such/file")
        except FileNotFoundError as error:
            told["exception"] = "\n".join(error.__notes__)
        return told


async def use_in_trio(node: str, urls: list[str]) -> dict[str, Any]:
    async def add_one(n: int) -> int:
        return n + 1

    async with gw.open_session(urls, node=node, name="me") as lab:
        await lab.execute(DEFINE)
        told = {
            "path": lab.path,
            "pid": await lab.modules.os.getpid(),
            "interfaces": await lab.namespace["interfaces"](),
            "callback": await lab.namespace["twice"](add_one, 40),
        }
        try:
            await lab.builtins.open("/no/such/file")
        except FileNotFoundError as error:
            told["exception"] = "\n".join(error.__notes__)
        return told


if __name__ == "__main__":
    node, *urls = sys.argv[1:]
    sys.stdout.write(json.dumps({"blocking": use(node, urls), "trio": trio.run(use_in_trio, node, urls)}))
