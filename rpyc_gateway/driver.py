"""What all sides of a link stand on: its pipe, its machine, its turn, and the trio thread that it lives in."""

from __future__ import annotations

import os
import random
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from rpyc_gateway.errands import Errands
from rpyc_gateway.errors import Code
from rpyc_gateway.proto.frames import Failure, Hello
from rpyc_gateway.proto.mux import Mux
from rpyc_gateway.transport import Pipe
from rpyc_gateway.turn import Turn

__all__ = ["Driver"]


class Driver(ABC):
    """The ground floor of a Connection. Made in the trio thread."""

    turn: Turn[Mux]
    """`with connection.turn as mux:` takes it, and sends and tells at the end what came of it.

    Within a turn of the same thread it only counts: the outer one does the rest.
    """

    def __init__(self, pipe: Pipe, hello: Hello, *, dialler: bool) -> None:
        self.pipe = pipe
        self.dialler = dialler
        self._clock = trio.lowlevel.current_clock()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()
        self.mux = Mux(
            hello,
            dialler=dialler,
            now=self._clock.current_time(),
            jitter=random.random(),
            rate=pipe.rate,
            message=pipe.message,
            patience=pipe.patience,
        )
        self.unsettled = False  # there is more to do at the end of this step than the machine knows
        self.speakers: deque[Callable[[], object]] = deque()  # who has something to say when somebody flushes
        self.errands: Errands[Any] = Errands()  # what its streams have to say on other links

    @abstractmethod
    def settle(self) -> None:
        """The end of a step: tell and send what came of it. With the turn held; the upper floor does it."""

    @property
    def peer_name(self) -> str:
        """What the peer calls itself; "" before it has said so."""
        return self.mux.peer.name if self.mux.peer is not None else ""

    @property
    def here(self) -> bool:
        """Whether this is the thread that runs trio."""
        return threading.get_ident() == self._thread

    def in_trio(self, call: Callable[..., object], *args: object) -> None:
        """Call it in the trio thread: now if this is it, else soon. Not at all if its run is over, and the link with it."""
        if threading.get_ident() == self._thread:
            call(*args)
            return
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call, *args)

    def in_trio_once(self, call: Callable[[], None]) -> None:
        """The same for a call that is as good once as many times: it waits there once only."""
        if threading.get_ident() == self._thread:
            call()
            return
        with suppress(trio.RunFinishedError):  # the loop that ran this link is over, and the link with it
            self._token.run_sync_soon(call, idempotent=True)

    def speak_later(self, speak: Callable[[], object]) -> None:
        """Have `speak` called once, with the turn held, by whoever flushes. From any thread, which sees to it that somebody does."""
        self.speakers.append(speak)

    def flush(self) -> None:
        """Send what may be sent now, as far as it goes without waiting; the writer does the rest."""
        with self.turn:
            self.let_speak()

    def let_speak(self) -> None:
        """Within a step: call those who wanted to speak later."""
        while self.speakers:
            self.speakers.popleft()()

    def _broken(self, exc: BaseException) -> Failure:
        cause = exc if isinstance(exc, OSError) else exc.__cause__
        if isinstance(cause, OSError) and cause.errno:
            text = os.strerror(cause.errno).lower()
        else:
            text = str(exc) or "the pipe broke"
        return Failure(Code.LINK_LOST, text, self.mux.hello.name)
