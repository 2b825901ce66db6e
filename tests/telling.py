"""Stories about proxies of blocking code, told in a thread to the root of a lab; and what they cost."""

from __future__ import annotations

import gc
from collections.abc import Callable
from textwrap import dedent

import trio

from rpyc_gateway.proto.messages import Answer, Call, Raise, Splitter
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.session import Session
from tests.house import messages_sent, open_lab, wait_until


class Costs:
    """Counts the round trips that a session makes, in either direction."""

    def __init__(self, session: Session) -> None:
        self._sent = messages_sent(session)
        self._seen = 0

    def calls(self) -> int:
        """Writes since the last time with questions in them, or with answers to questions of the far side."""
        new, self._seen = self._sent[self._seen :], len(self._sent)
        kinds = (Call, Answer, Raise)
        return sum(any(isinstance(message, kinds) for message in Splitter().receive_data(data)) for data in new)


async def told(story: Callable[..., None], setup: str = "", *, hops: int = 1) -> None:
    """Tell `story(lab)` or `story(lab, costs)` where `setup` was executed; nothing is left on either side."""
    async with open_lab(hops) as lab:
        await lab.execute(dedent(setup))
        costs = Costs(lab)
        arguments = (blocking_proxy(lab.held_root), costs)[: story.__code__.co_argcount]
        await trio.to_thread.run_sync(story, *arguments)
        await settled(lab)


async def settled(lab: Session) -> None:
    """Whatever was lent comes back, and no question stays open."""

    def nothing_left() -> bool:
        lab._flush()
        return lab.statistics()[:3] == (0, 0, 0)

    gc.collect()  # an exception and its traceback are a cycle
    await lab.ping()  # what died is given back before it is answered
    await wait_until(nothing_left)
