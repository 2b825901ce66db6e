"""What a transport is, and how one is found by URL.

A transport is a way to get a byte pipe between two neighbours. Each is a plug-in: a package registers a class without
arguments under the scheme of its URLs in the entry-point group `rpyc_gateway.transports`. The built-in ones use the same
door. A transport imports this module and `rpyc_gateway.errors`, nothing deeper.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from inspect import getdoc
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

import trio

from rpyc_gateway.doorway import Crowded, Doorway, Hearing
from rpyc_gateway.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

__all__ = [
    "GREETING",
    "Alone",
    "Buffer",
    "Crowded",
    "Doorway",
    "Finder",
    "Handler",
    "Hearing",
    "Interpreter",
    "Listener",
    "Pipe",
    "Place",
    "SendNowait",
    "Surveyor",
    "Transport",
    "check_url",
    "close_at_once",
    "find_places",
    "find_transport",
    "handle",
    "installed_transports",
    "missing_from",
    "without_secrets",
]

GROUP = "rpyc_gateway.transports"

logger = logging.getLogger(__name__)

Buffer: TypeAlias = bytes | memoryview

GREETING = re.compile(rb"\x01\x00..RP(?:GW|PY)|\x0e\x00..\x00{4}", re.DOTALL)
"""How a listener's side of a link begins: with HELLO, or with ERROR in its place (docs/protocol.md, section 1); or a bare Python (section 13).

A transport whose far side may print something before (a banner, the message of the day) gives its pipe from there on.
"""


class SendNowait(Protocol):
    """A write that does not wait."""

    def __call__(self, *buffers: Buffer) -> int: ...


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A bare Python, which runs what it is sent, line by line (docs/stdio.md)."""

    name: str = ""
    """What the node that comes of it is to be called."""
    whole: bool = True
    """It may become a whole node, where this package is installed there."""


@dataclass(slots=True)
class Pipe:
    """A byte pipe between two neighbours, as a transport gives it.

    What begins with `send_nowait` is for other threads than trio's, and may be missing. `send_nowait` writes its buffers, in order, without waiting:
    it returns how many bytes it took (0 if it would block; `wait_send_all_might_not_block` waits until it would not) and raises OSError if the pipe is broken or closed. `receive_nowait` reads up
    to so many bytes: b"" at the end, None if nothing is there; OSError likewise. `fileno` is what to poll for it. Their caller
    makes sure that no `send_all` and no `receive_some` is under way, and that nobody closes the stream while they run: a descriptor
    closed midway may be another file's by then.
    """

    stream: trio.abc.Stream
    """`send_all` takes any size, and splits it where the medium has messages of a limited one."""
    peer: str
    """For people: "127.0.0.1:18860", "`ssh ops@bastion …` (pid 812)"."""
    identity: str = ""
    """What the transport knows of the peer: "uid:1000", "cert:lab-7", "parent", "child:COMMAND", "tty:/dev/ttyUSB0" (docs/protocol.md, section 4)."""
    private: bool = False
    """Known to have no other machine at its other end."""
    reliable: bool = True
    """What arrives is whole and in order, or the pipe breaks. If not, the reliable line goes on top."""
    rate: float = inf
    """Bytes per second that the medium carries, where that is known: a slow one is given small frames."""
    message: int = 262_144
    """Bytes that it likes to be given at once."""
    patience: float = 10.0
    """Seconds that the other side has for its HELLO: more where a program has to be started first."""
    interpreter: Interpreter | None = None
    """What is at its other end, if that is no node yet."""

    reserved: bytes = b"\r\x11\x13"
    """What a medium that is not reliable may change, or take for itself: line ends, flow control."""
    fastest: int = 0
    """The highest baud rate that such a medium may be set to, where it can be set at all."""
    set_rate: Callable[[int], Awaitable[None]] | None = None
    """To another baud rate, both ways, once what was sent has left; 0 is the one that it began with."""

    send_nowait: SendNowait | None = None
    receive_nowait: Callable[[int], bytes | None] | None = None
    fileno: int = -1
    receive_at_least: int = 1
    """Bytes to ask `receive_nowait` for, so that whatever is left is seen by polling."""


@dataclass(frozen=True, slots=True)
class Place:
    """Something that could be dialled from this machine, as a transport found it."""

    url: str  # what to write to dial it
    name: str  # for people: "/dev/ttyACM0"
    about: Mapping[str, str]  # what is known of it, by names that its transport chooses: "product", "serial", ...


Handler: TypeAlias = Callable[[Pipe], Awaitable[None]]


@runtime_checkable
class Transport(Protocol):
    """Dials and listens for the URLs of one scheme. It has no state of its own: one value serves all links."""

    def connect(self, url: str) -> AbstractAsyncContextManager[Pipe]:
        """Dial; leaving the context closes everything that it started.

        Raises DialFailed, saying what happened and what to do. Cancelling it at any point leaves nothing behind.
        """
        ...

    async def serve(self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = ...) -> None:
        """Listen, and run `handler` on each pipe, until cancelled. `started` gets the URLs that are really bound.

        An exception of one handler is logged and stops nobody else; the stream is closed when its handler ends.
        Raises ConfigError before `started` if it cannot listen there.
        """
        ...

    def is_private(self, url: str) -> bool:
        """Whether a listener at this URL can be reached from this machine only."""
        ...

    def is_guarded(self, url: str) -> bool:
        """Whether a listener at this URL lets nobody in whom it cannot name for certain, and nobody else hear or change what is said.

        One that is neither private nor guarded needs `insecure = true`.
        """
        ...

    def check(self, url: str) -> str | None:
        """What is wrong with this URL, in words for its author; None if nothing is.

        Raises ConfigError for what is wrong with this machine only, such as a file that the URL names and that is not here.
        """
        ...


METHODS = {name for name in vars(Transport) if not name.startswith("_")}


@runtime_checkable
class Surveyor(Protocol):
    """What a transport may do beside: look around."""

    def places(self) -> Iterable[Place]:
        """What could be dialled from here now. It may read files, and takes no more than a moment. Raises OSError if it cannot look."""
        ...


@runtime_checkable
class Finder(Surveyor, Protocol):
    """What a Surveyor may do beside: say which of the places a URL stands for."""

    def fields(self, url: str) -> Collection[str]:
        """The names of what is known `about` each place that the URL may stand for; none if it is the address of one."""
        ...

    def fitting(self, url: str, places: Iterable[Place]) -> list[Place]:
        """Those of the places that the URL stands for; each has, instead of its own, a URL for it alone, wherever the others go."""
        ...


@runtime_checkable
class Listener(Protocol):
    """What a transport may do beside: look at a URL before it is listened at."""

    def check_listener(self, url: str) -> str | None:
        """What is wrong with listening at a URL that `check` has nothing against, in words; None if nothing is. Raises ConfigError like it."""
        ...


_found: dict[str, Transport] = {}  # by scheme; a search reads the metadata of every installed package


def find_transport(url: str) -> Transport:
    """The transport for the scheme of `url`.

    Raises ConfigError: no such transport (the installed ones are named), two packages claim the scheme, or a plug-in is broken.
    """
    scheme, colon, _ = url.partition(":")
    found = _found.get(scheme.lower()) if colon else None
    if found is not None:
        return found
    claims = {entry.value: entry for entry in entry_points().select(name=scheme.lower())} if colon else {}
    if not claims:
        raise ConfigError([f"{without_secrets(url)}: {_unknown(url, scheme if colon else '')}"])
    if len(claims) > 1:
        names = " and ".join(sorted(map(_describe, claims.values())))
        raise ConfigError(
            [f"{without_secrets(url)}: more than one package claims {scheme}: {names}; uninstall one of them"]
        )
    (entry,) = claims.values()
    transport = _found[scheme.lower()] = _load(entry, url)
    return transport


def check_url(url: str, *, listening: bool = False) -> str | None:
    """What is wrong with a URL, or with `listening` there, in words; None if nothing is. Raises ConfigError like `find_transport`, and if the transport fails at it."""
    transport = find_transport(url)
    try:
        problem = transport.check(url)
        if problem is None and listening and isinstance(transport, Listener):
            problem = transport.check_listener(url)
        return problem
    except ConfigError:
        raise
    except Exception as exc:
        name = f"{type(transport).__module__}:{type(transport).__qualname__}"
        raise ConfigError(
            [f"{without_secrets(url)}: the transport {name} failed to check it: {type(exc).__name__}: {exc}"]
        ) from exc


class Installed(NamedTuple):
    """A claim to the URLs of a scheme."""

    scheme: str
    package: str  # name and version; empty if it is not known
    what: str  # the first sentence that its module says of itself
    problem: str  # why it cannot be used; empty if it can


def installed_transports() -> list[Installed]:
    """All claims that there are, by scheme, those that cannot be used included."""
    return [_look_at(entry) for entry in sorted(entry_points(), key=lambda entry: (entry.name, entry.value))]


def _look_at(entry: EntryPoint) -> Installed:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""
    try:
        found = find_transport(f"{entry.name}:")
    except ConfigError as exc:
        return Installed(entry.name, package, "", str(exc).removeprefix(f"{entry.name}:: "))
    said = (getdoc(import_module(type(found).__module__)) or "").partition("\n")[0]
    return Installed(entry.name, package, said, "")


def find_places() -> list[Place]:
    """What all transports that look around have found. One that is broken or cannot look is logged."""
    found: list[Place] = []
    for scheme in sorted({entry.name for entry in entry_points()}):
        try:
            transport = find_transport(f"{scheme}:")
            found += transport.places() if isinstance(transport, Surveyor) else ()
        except (ConfigError, OSError) as exc:
            logger.warning("%s", exc)
    return found


def without_secrets(url: str) -> str:
    """A URL for logs, errors and lists: without user and password, and without the options that may hold a secret."""
    place, question, query = url.partition("?")
    place = re.sub(r"(?<!/)//[^/?\s][^?\s]*@", "//***@", place)  # also of a URL within another: `either:tcp://...`
    query = re.sub(r"(^|&)(header|proxy|\w*password)=(?!direct(?:&|$))[^&]*", r"\1\2=***", query)
    return f"{place}{question}{query}"


def entry_points() -> EntryPoints:
    """What is installed under the name of our group."""
    from importlib import metadata  # slow to load, and seldom needed again

    return metadata.entry_points(group=GROUP)


# What other programs call it.
_FAMILIAR = {"http": "ws", "https": "wss", "ssh": "stdio:ssh user@host rpyc-gw stdio", "ssl": "tls"}


def _unknown(url: str, scheme: str) -> str:
    from difflib import get_close_matches

    names = sorted({entry.name for entry in entry_points()})
    installed = ", ".join(f"{name}:" for name in names) or "none"
    what = f"no transport {scheme!r} is installed" if scheme else "a URL starts with the name of a transport"
    _, _, port = url.rpartition(":")
    hint = f"; did you mean tcp://{without_secrets(url)}?" if port.isdecimal() and "/" not in url else ""
    near = _FAMILIAR.get(scheme.lower()) or next(iter(get_close_matches(scheme.lower(), names, n=1)), "")
    if near.partition(":")[0] in names:
        hint = f"; did you mean {near if ':' in near else f'{near}:'}?"
    return f"{what} (installed: {installed}){hint}"


def _load(entry: EntryPoint, url: str) -> Transport:
    try:
        transport: Transport = entry.load()()
    except (Exception, SystemExit) as exc:  # some modules exit when they miss something
        raise ConfigError(
            [f"{without_secrets(url)}: the transport {_describe(entry)} cannot be loaded: {type(exc).__name__}: {exc}"]
        ) from exc
    missing = missing_from(transport)
    if missing:
        raise ConfigError(
            [
                f"{without_secrets(url)}: {_describe(entry)} is not a transport: it lacks {', '.join(missing)} (docs/transports.md)"
            ]
        )
    return transport


def missing_from(transport: object) -> list[str]:
    """The methods of a Transport that it lacks, by name."""
    return [name for name in sorted(METHODS) if not callable(getattr(transport, name, None))]


def _describe(entry: EntryPoint) -> str:
    package = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"{entry.value}{package}"


class Alone:
    """For streams: one task at a time may be in it, as trio's contract for `send_all` and `receive_some` says. Entering raises BusyResourceError if one is."""

    __slots__ = ("_doing", "taken")

    def __init__(self, doing: str) -> None:
        self._doing = doing  # "send"
        self.taken = False

    def __enter__(self) -> None:
        if self.taken:
            raise trio.BusyResourceError(f"another task is using this stream to {self._doing}")
        self.taken = True

    def __exit__(self, *_: object) -> None:
        self.taken = False


async def handle(pipe: Pipe, handler: Handler) -> None:
    """Run one handler as a listener must: what it raises is logged, and the stream is closed when it ends.

    Cancelled: the stream is closed at once.
    """
    try:
        await handler(pipe)
    except* Exception:
        logger.exception("the handler of the pipe from %s failed", pipe.peer)
    finally:
        await close_at_once(pipe.stream)


async def close_at_once(stream: trio.abc.AsyncResource) -> None:
    """Close it without waiting for anything; a plain socket without going round in trio's loop, which costs more than to close it."""
    if type(stream) is trio.SocketStream:
        stream.socket.close()
    else:
        await trio.aclose_forcefully(stream)
