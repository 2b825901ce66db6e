"""The Python of a board, at a port of this machine or as a node: one shape for both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property
from typing import Any

from rpyc_gateway.client import open_session
from rpyc_gateway.device.anyboard import AnyBoard, BoardError
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.errors import DialFailed, GatewayError, LinkLost, RemoteError
from rpyc_gateway.session import Session
from rpyc_gateway.transport import find_transport

__all__ = ["CHUNK", "BoardFailed", "Interpreter", "Progress", "about", "defined", "open_node", "open_port"]

CHUNK = 1024
"""Bytes of a file in one message: a board takes no longer one than a quarter of its free heap."""

Progress = Callable[[int, int], object]
"""Is told the bytes that are done, and all."""


class BoardFailed(GatewayError):
    """An exception of a board, in its words."""

    def __init__(self, name: str, kind: str, text: str, traceback: str = "") -> None:
        said = f"{kind}: {text}" if kind and text else kind or text or "it failed, and had no memory to say why"
        super().__init__(f"{name}: {said}")
        self.name = name
        self.said = said
        self.traceback = traceback or said


class Interpreter(ABC):
    """The Python of a board, by whatever way. What asks it raises BoardFailed for its exceptions, and LinkLost; cancelled, it is interrupted."""

    name: str
    shows: bool
    """Whether what is printed there appears here by itself."""

    @abstractmethod
    async def evaluate(self, source: str) -> Any:
        """The value of an expression, or what stands for an object that stays there."""

    @abstractmethod
    async def call(self, function: Any, *args: Any) -> Any:
        """Call such an object."""

    @abstractmethod
    async def wait_lost(self) -> GatewayError:
        """Wait until nothing can be asked any more; why."""

    async def made(self, source: str, name: str = "f") -> Any:
        """The function of this name that the source defines. It is sent once and stays there, for who copies many files."""
        function = self._made.get(source)
        if function is None:
            function = self._made[source] = await self.evaluate(defined(source, name))
        return function

    @cached_property
    def _made(self) -> dict[str, Any]:
        return {}


class AtPort(Interpreter):
    """A board at a port of this machine, or a bare Python that a command leads to."""

    def __init__(self, name: str, board: AnyBoard, *, shows: bool) -> None:
        self.name = name
        self.shows = shows
        self._board = board

    async def evaluate(self, source: str) -> Any:
        with in_its_words(self.name):
            return await self._board.evaluate(source)

    async def call(self, function: Any, *args: Any) -> Any:
        with in_its_words(self.name):
            return await self._board.call(function, *args)

    async def wait_lost(self) -> GatewayError:
        return await self._board.wait_lost()


class AtNode(Interpreter):
    """A board that is a node, behind a session."""

    def __init__(self, name: str, session: Session, *, shows: bool) -> None:
        self.name = name
        self.shows = shows
        self._session: Any = session

    async def evaluate(self, source: str) -> Any:
        with in_its_words(self.name):
            return await self._session.eval(source)

    async def call(self, function: Any, *args: Any) -> Any:
        with in_its_words(self.name):
            return await function(*args)

    async def wait_lost(self) -> GatewayError:
        await self._session.wait_closed()
        error = self._session.error
        return error if isinstance(error, LinkLost) else LinkLost(f"{self.name}: its session has ended: {error}")


@asynccontextmanager
async def open_port(url: str, name: str, show: Callable[[bytes], object], progress: Progress) -> AsyncIterator[AtPort]:
    """The board at this URL; `show` gets the lines that it prints, `progress` is that of the upload. Raises DialFailed."""
    async with find_transport(url).connect(url) as pipe:
        if pipe.interpreter is None and url.startswith(
            "stdio:"
        ):  # what such a command says first is no part of its pipe
            raise DialFailed(
                f"{name}: a command that leads to a bare Python ends in python3; a board is reached by its port, or as a node by --url"
            )
        async with open_board(pipe, show=show, progress=progress) as board:
            yield AtPort(name, board, shows=pipe.interpreter is None)  # its output goes to its standard error


@asynccontextmanager
async def open_node(
    url: Sequence[str], via: Sequence[str], name: str, show: Callable[[str], object]
) -> AsyncIterator[AtNode]:
    """The board that is the node of this name; `show` gets what it prints where it `shows` that. Raises what open_session raises."""
    async with open_session(list(url), node=name, via=via) as session:
        yield AtNode(name, session, shows=await shown_by_itself(session, show))


async def shown_by_itself(session: Any, show: Callable[[str], object]) -> bool:
    """Whether `show` gets what the board prints. One that has an agent does not know what is printed for whom, and a full node is no board."""
    try:
        return bool(await session.root.show(show))
    except AttributeError:
        return False


@contextmanager
def in_its_words(name: str) -> Iterator[None]:
    try:
        yield
    except BoardError as exc:
        raise BoardFailed(name, exc.failure.kind, exc.failure.text, exc.failure.traceback) from None
    except RemoteError as exc:
        raise BoardFailed(name, "", str(exc), noted(exc)) from None
    except GatewayError:
        raise
    except Exception as exc:  # noqa: BLE001 - a node passes those of its board on as what they were there
        kind = "OSError" if isinstance(exc, OSError) else type(exc).__name__  # boards have no FileNotFoundError
        text = exc if isinstance(exc, OSError) else exc.args[-1] if exc.args else ""
        raise BoardFailed(name, kind, str(text), noted(exc)) from None


@contextmanager
def about(path: str) -> Iterator[None]:
    """A board does not say which file it is that is missing, nor, if its `os` is a small one, that it is that."""
    try:
        yield
    except BoardFailed as exc:
        name = f"{exc.name}: {path}" if path else exc.name
        if exc.said.startswith(("AttributeError: ", "ImportError: ")):  # of its os, which is all that is asked for
            raise BoardFailed(
                name,
                "",
                f"the `os` of this board has not what its files are reached by ({exc.said}), and that of a micro:bit has not: `rpyc-gw device exec` can open() them",
            ) from None
        raise BoardFailed(name, "", exc.said) from None


def noted(error: Exception) -> str:
    """The traceback of the board, as a node passes it on."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(NOTE)]
    return notes[0].removeprefix(NOTE) if notes else ""


NOTE = "on the board:\n"


def defined(source: str, name: str = "f") -> str:
    """An expression whose value is the function of this name that the source defines."""
    dense = source.strip().replace("    ", " ")  # it may have to go down a slow line
    return f"(lambda n:(exec({dense!r},n),n[{name!r}])[1])({{}})"
