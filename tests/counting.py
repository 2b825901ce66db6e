"""A lab whose blocking face is used in a thread, and whose questions are counted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from textwrap import dedent
from typing import Any

import trio

from rpyc_gateway.proto.messages import Call, Message, Splitter
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.session import Session
from tests.house import messages_sent, open_lab

SETUP = """
import collections
class User:
    limit = 5
    def __init__(self, name): self.name = name
    def greet(self, word="hello"): return f"{word} {self.name}"
    def rename(self, name): self.name = name; return self
    def children(self): return tuple(User(str(n)) for n in range(100))
class Shy:
    def __getattr__(self, name): return len(name)
    def speak(self): return "..."
def ten_times(function): return [function(n) for n in range(10)]
user = User("ada")
"""


class Counted:
    """The blocking face of a session, and how many questions it has sent."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.root: Any = blocking_proxy(session.held_root)
        self._sent = messages_sent(session)

    def messages(self) -> list[list[Message]]:
        return [Splitter().receive_data(write) for write in self._sent]

    def writes(self, kind: type) -> int:
        return sum(any(isinstance(message, kind) for message in write) for write in self.messages())

    @contextlib.contextmanager
    def trips(self, expected: int) -> Iterator[None]:
        self._sent.clear()
        yield
        assert self.writes(Call) == expected, self.messages()


@contextlib.asynccontextmanager
async def counted(hops: int) -> AsyncIterator[Counted]:
    async with open_lab(hops=hops) as session:
        await session.execute(dedent(SETUP))
        yield Counted(session)


async def told(hops: int, story: Callable[[Counted], None]) -> None:
    async with counted(hops) as lab:
        await trio.to_thread.run_sync(story, lab)
