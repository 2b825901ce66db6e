"""One call for the tests of what blocking code and trio code do alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

import rpyc_gateway as gw

FACES = ["blocking", "trio"]


def with_session(
    face: str, url: str, function: Callable[..., Any], *args: Any, begun: Callable[[], object] = bool, **options: Any
) -> Any:
    """Call a function of ours with a session of this face with the lab behind `url`, from blocking code; `begun` is called when there is one."""

    async def in_trio() -> Any:
        async with gw.open_session(url, node="lab") as session:
            begun()
            return await function(session, *args, **options)

    if face == "trio":
        return trio.run(in_trio)
    with gw.connect(url, node="lab") as conn:
        begun()
        return function(conn, *args, **options)
