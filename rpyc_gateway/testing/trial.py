"""One transport under check: where it listens and is dialled, how long things may take, and what was going on when a rule was broken."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import trio

from rpyc_gateway.testing.leftovers import Belongings
from rpyc_gateway.testing.partner import GREETING, PART_SIZE, Layer, Partner, as_it_is, part
from rpyc_gateway.transport import Pipe, Transport, without_secrets

__all__ = ["NotApplicable", "Started", "TransportFault", "Trial", "fault"]

MUCH = 8 * 1024 * 1024
SECONDS_OF_LINE = 2.0  # what one transfer may take on a medium that says how fast it is


class TransportFault(AssertionError):
    """A transport broke a rule. The message says which, where, and with what numbers."""


class NotApplicable(Exception):
    """A rule has nothing to say about this transport, and why."""


def same_place(asked: str, bound: str) -> str:
    """The URL to listen at the place again where that was bound: with the options that were asked for, which `bound` need not repeat."""
    _, _, options = asked.partition("?")
    return bound if "?" in bound or not options else f"{bound}?{options}"


def fault(sentence: str) -> NoReturn:
    """Say what was broken."""
    raise TransportFault(sentence)


class Started:
    """A task status that tells when, and with what, instead of waking a nursery."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.event = trio.Event()

    def started(self, value: Any = None) -> None:
        self.urls = value
        self.event.set()


@dataclass
class Trial:
    """What all rules need to know. Everything is served and dialled through here."""

    transport: Transport
    url: str | None  # None: whoever answers at `dial` does so by itself
    dial: str | Callable[[str], str] | None
    layer: Layer = as_it_is
    many: int = 50
    buffered: int | None = None
    patience: float = 10.0
    interruptions: int = 1000
    wrong: tuple[str, ...] = ()
    rate: float = field(default=math.inf, init=False)
    doing: str = field(default="starting", init=False)

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Say what is being done, for the case that it hangs or fails; it may take `patience` seconds."""
        self.doing = doing
        with trio.move_on_after(self.patience) as scope:
            yield
        if scope.cancelled_caught:
            fault(f"{doing}: it had not happened after {self.patience:g} s")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Partner]:
        """Serve, as long as the body runs, for any number of dials. What is left behind afterwards is a fault."""
        partner = Partner(self.layer)
        if self.url is None:
            yield partner
            return
        before = Belongings.now()
        async with trio.open_nursery() as nursery:
            with self.step(f"serving at {without_secrets(self.url)}"):
                urls: Any = await nursery.start(self.transport.serve, self.url, partner)
            self._note_urls(urls)
            yield partner
            nursery.cancel_scope.cancel()
        left = await before.what_is_more(self.patience)
        if left:
            fault(f"serve was cancelled, and left {left}")

    def _note_urls(self, urls: object) -> None:
        """Where it really listens; a later rule listens there again."""
        if not (isinstance(urls, list) and urls and all(isinstance(url, str) for url in urls)):
            fault(f"`started` got {urls!r}: it is for the list of the URLs that are really bound")
        if self.dial is None:
            self.dial = urls[0]
        elif not isinstance(self.dial, str):
            self.dial = self.dial(urls[0])
        assert self.url is not None
        self.url = same_place(self.url, urls[0])

    @property
    def target(self) -> str:
        """What to dial."""
        assert isinstance(self.dial, str)
        return self.dial

    @asynccontextmanager
    async def dialled(self, name: str, *numbers: int) -> AsyncIterator[Pipe]:
        """A pipe to a partner who plays that part."""
        self.doing = f"dialling {without_secrets(self.target)}"
        broken: BaseException | None = None
        # A scope that ends before the body would cut through what `connect` has opened for it.
        with trio.CancelScope(deadline=trio.current_time() + self.patience) as dialling:
            async with self.transport.connect(self.target) as pipe, self.layer(pipe, dialler=True) as whole:
                dialling.deadline = math.inf
                self.rate = min(pipe.rate, whole.rate)
                with self.step(f"sending the first bytes, the {PART_SIZE} that name the part of the partner"):
                    await whole.stream.send_all(part(name, *numbers))
                await self.expect(whole, GREETING, "the greeting of the other side")
                try:
                    yield whole
                except BaseException as exc:
                    broken = exc
                    raise
                finally:
                    if broken is None:
                        self.doing = "leaving the context of `connect`"
                    dialling.deadline = trio.current_time() + self.patience
        if isinstance(broken, Exception):
            raise broken
        if dialling.cancelled_caught:
            fault(f"{self.doing}: it had not happened after {self.patience:g} s")

    def amount(self, most: int = MUCH) -> int:
        """So many bytes are a large transfer: the medium takes two seconds for them, if it is slow."""
        return int(min(most, max(64, self.rate * SECONDS_OF_LINE)))

    def most_in_flight(self) -> int:
        """How much a writer may get rid of while nobody reads."""
        if self.buffered is not None:
            return self.buffered
        return int(min(4 * MUCH, max(131_072, self.rate * SECONDS_OF_LINE)))

    async def hear(self, pipe: Pipe, size: int, what: str, piece: int = 65536) -> bytearray:
        """So many bytes, from a partner who has sent them."""
        heard = bytearray()
        while len(heard) < size:
            limit = min(piece, size - len(heard))
            with self.step(f"{what}: receiving, {len(heard)} of {size} bytes have come"):
                data = await pipe.stream.receive_some(limit)
            if not isinstance(data, (bytes, bytearray)):
                fault(f"{what}: receive_some returned {type(data).__name__}, not bytes")
            if len(data) > limit:
                fault(f"{what}: receive_some({limit}) returned {len(data)} bytes: more than it was asked for")
            if not data:
                fault(f"{what}: the stream ended after {len(heard)} of {size} bytes that the other side had sent")
            heard += data
        return heard

    async def expect(self, pipe: Pipe, expected: bytes, what: str, piece: int = 65536) -> None:
        """Just these bytes."""
        compare(await self.hear(pipe, len(expected), what, piece), expected, what)

    async def send(self, pipe: Pipe, data: bytes | bytearray | memoryview) -> None:
        with self.step(f"sending {len(data)} bytes"):
            await pipe.stream.send_all(data)

    async def echo(self, pipe: Pipe, data: bytes, what: str = "an echo") -> None:
        """A partner who echoes does so."""
        await self.send(pipe, data)
        await self.expect(pipe, data, what)

    async def hear_end(self, pipe: Pipe, after: str) -> str:
        """The end of the stream, or its break, which must come; which of the two."""
        with self.step(f"waiting for the end of the stream after {after}"):
            try:
                data = await pipe.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return "broken"
        if data:
            fault(f"after {after} {len(data)} bytes came that nobody had sent")
        return "the end"


def compare(heard: bytes | bytearray, sent: bytes | bytearray, what: str) -> None:
    """Both must be the same."""
    if heard == sent:
        return
    at = next((place for place, (one, other) in enumerate(zip(heard, sent, strict=False)) if one != other), len(heard))
    fault(f"{what}: {len(heard)} bytes came for {len(sent)}, and they differ from byte {at} on")
