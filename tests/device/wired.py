"""An agent in this process and its front, over a wire with a clock that jumps. The agent runs as it does on a board; whenever it waits for a line, the front has its turn."""

from __future__ import annotations

import io
import re
import sys
import traceback
from collections.abc import Callable, Generator
from math import inf
from pathlib import Path
from types import GeneratorType
from typing import Any

import rpyc_gateway.device
from rpyc_gateway.device.conversation import (
    Answered,
    Broken,
    Called,
    Conversation,
    Dropped,
    Failed,
    Failure,
    Notified,
    Primitive,
    Step,
)
from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineevents import Lost, Printed, Received
from rpyc_gateway.proto.lineframes import Greeting

Noise = Callable[[bytes], bytes]
Story = Generator[None, None, None]

NONCE = b"life"
AGENT = Path(rpyc_gateway.device.__file__).with_name("agent.py")


def sections() -> dict[str, str]:
    found = re.split(r"^#: (\w+)$", AGENT.read_text(), flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def core(**port: Any) -> dict[str, Any]:
    """The agent's names, over this port."""
    names = {"sys": sys, "read_line": None, "write": None, "trace": trace, **port}
    for section in ("core", "callbacks"):
        exec(compile(sections()[section], section, "exec"), names)
    return names


def trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


class Raised(Exception):
    """A call has failed at the board."""

    @property
    def failure(self) -> Failure:
        failure = self.args[0]
        assert isinstance(failure, Failure)
        return failure


class Front:
    """What a story asks of its board. `heard` is what came that nobody waited for."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.heard: list[Any] = []
        self.printed: list[bytes] = []
        self.lost: Lost | None = None
        self.stories: list[tuple[int | None, Story]] = []
        self.done: dict[int, Answered | Failed] = {}

    def ask(self, target: Any, *args: Any, copy: bool = False) -> Generator[None, None, Any]:
        return self.run(Step(target, args), copy=copy)

    def run(self, *steps: Step, copy: bool = False) -> Generator[None, None, Any]:
        return self.wait(self.conversation.call(steps, copy=copy))

    def wait(self, call: int) -> Generator[None, None, Any]:
        while call not in self.done:
            yield
        fact = self.done.pop(call)
        if isinstance(fact, Failed):
            raise Raised(fact.failure)
        return fact.value

    def evaluate(self, source: str, *, copy: bool = False) -> Generator[None, None, Any]:
        return self.ask(Primitive.EVAL, source, copy=copy)

    def take(self, fact: Any) -> None:
        match fact:
            case Answered(call) | Failed(call):
                self.done[call] = fact
            case Called(callback, target, args, keywords):
                try:
                    result = target(*args, **keywords)
                except Exception as error:  # noqa: BLE001
                    self.conversation.fail(callback, type(error).__name__, str(error))
                else:
                    if isinstance(result, GeneratorType):
                        self.stories.append((callback, result))
                    else:
                        self.conversation.answer(callback, result)
            case Notified(target, args):
                target(*args)
            case _:
                self.heard.append(fact)


class Wired:
    """A board and its front. `run` runs a story and ends when it does; it returns what the front has heard."""

    def __init__(
        self,
        *,
        noise: Noise | None = None,
        latency: float = 0.001,
        size: int = 120,
        buffer: int = 240,
        free: float = inf,
        rate: float = inf,
        most: float = 600.0,
        nonce: bytes = b"host",
        agent: dict[str, Any] | None = None,
    ) -> None:
        self.now = 100.0
        self.until = self.now + most
        self.noise = noise
        self.latency = latency
        self.to_board: list[tuple[float, bytes]] = []
        self.to_front: list[tuple[float, bytes]] = []
        self.sent: list[bytes] = []  # what the front wrote
        self.written: list[bytes] = []  # what the board wrote
        self.arrived = b""
        self.line = Line(Greeting(nonce=nonce), dialler=True, now=self.now, rate=rate, patience=inf)
        self.front = Front(Conversation())
        self.size = size
        hello = Greeting(
            nonce=NONCE, mtu=240, window=8, buffer=buffer, delay=50, escapes=b"\1\2\3\4\5\r\x11\x13\x15\x17"
        )
        self.rest = hello.encode()[11:]
        self.agent = core() if agent is None else agent
        self.agent.update(read_line=self.read_line, write=self.write, strikes=0, mem_free=lambda: free)
        self.failed: BaseException | None = None

    def run(self, story: Callable[[Front], Story]) -> Front:
        self.front.stories.append((None, story(self.front)))
        self.agent["main"](NONCE, self.rest, self.size)
        if self.failed is not None:
            raise self.failed
        return self.front

    # -- the board's port

    def write(self, data: bytes) -> None:
        assert data[-1:] == b"\n"
        self.written.append(bytes(data))
        self.to_front.append((self.now + self.latency, self.noise(bytes(data)) if self.noise else bytes(data)))

    def print(self, text: bytes) -> None:
        """What a program on the board prints."""
        self.to_front.append((self.now + self.latency, text))

    def read_line(self, ms: int) -> bytes:
        end = self.now + ms / 1000
        while True:
            while self.to_board and self.to_board[0][0] <= self.now:
                self.arrived += self.to_board.pop(0)[1]
            if b"\n" in self.arrived:
                line, _, self.arrived = self.arrived.partition(b"\n")
                return line + b"\n"
            self.step()
            at = min([time for time, _ in (*self.to_board[:1], *self.to_front[:1])] + [self.line.deadline() or inf])
            if self.now >= end and not self.arrived:  # or it waits for the end of the line
                return b""
            if self.now > self.until or self.failed is not None:
                self.failed = self.failed or AssertionError("the story does not end")
                raise SystemExit
            self.now = max(at, self.now + 1e-6) if self.arrived else min(end, max(at, self.now + 1e-6))
            if self.now == inf:
                self.now = self.until + 1

    # -- the front

    def step(self) -> None:
        line = self.line
        while self.to_front and self.to_front[0][0] <= self.now:
            line.receive_data(self.to_front.pop(0)[1], self.now)
        deadline = line.deadline()
        if deadline is not None and deadline <= self.now:
            line.handle_timeout(self.now)
        for event in line.events():
            match event:
                case Received(data):
                    line.consume(len(data), self.now)
                    self.front.conversation.receive_data(data)
                case Printed(text):
                    self.front.printed.append(text)
                case Lost():
                    self.front.lost = event
        for fact in self.front.conversation.facts():
            self.front.take(fact)
            assert not isinstance(fact, Broken), fact
        self.tell()
        line.send(self.front.conversation.data_to_send())
        for data in (line.data_to_send(self.now), line.last_words()):
            if data:
                self.give(data)

    def give(self, data: bytes) -> None:
        self.sent.append(data)
        self.to_board.append((self.now + self.latency, self.noise(data) if self.noise else data))

    def tell(self) -> None:
        """Go on with each story as far as it goes."""
        for entry in list(self.front.stories):
            callback, story = entry
            try:
                next(story)
            except StopIteration as stop:
                self.front.stories.remove(entry)
                if callback is not None:
                    self.front.conversation.answer(callback, stop.value)
            except BaseException as error:  # noqa: BLE001
                self.failed = error
                return
        if not self.front.stories and not self.line.down:
            if self.noise is not None:
                self.noise = None
            self.line.reset("the story is over")


def dropped(front: Front) -> int:
    return sum(fact.count for fact in front.heard if isinstance(fact, Dropped))


def captured(action: Callable[[], object]) -> str:
    out, sys.stdout = sys.stdout, io.StringIO()
    try:
        action()
        return sys.stdout.getvalue()
    finally:
        sys.stdout = out
