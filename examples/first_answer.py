"""Ask several nodes at once and take the first answer, in trio code: the calls of the others are cancelled over there.

python examples/first_answer.py unix:///tmp/rpyc-gw-hq.sock lab lab
"""

from __future__ import annotations

import sys

import trio

import rpyc_gateway as gw


async def main(url: str, *nodes: str) -> None:
    """Print which node answered first, and what."""
    answers: list[tuple[str, str]] = []

    async with trio.open_nursery() as nursery:

        async def ask(node: str) -> None:
            async with gw.open_session(url, node=node) as session:
                answers.append((node, await session.modules.platform.platform()))
                nursery.cancel_scope.cancel()

        for node in nodes:
            nursery.start_soon(ask, node)

    node, answer = answers[0]
    print(f"{node}: {answer}")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
