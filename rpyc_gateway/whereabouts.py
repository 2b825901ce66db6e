"""Where the nodes are that tests ask for by name, and the links to them, which are kept for the next test."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import trio

from rpyc_gateway.boards import open_node
from rpyc_gateway.cli.run import put_own_scripts_first
from rpyc_gateway.client import open_session
from rpyc_gateway.config import Config, Listen
from rpyc_gateway.deadlines import timeout
from rpyc_gateway.errors import GatewayError, LinkLost, Unreachable
from rpyc_gateway.gateway import Node
from rpyc_gateway.redirection import PATIENCE, is_board, redirected_stdio
from rpyc_gateway.session import Session
from rpyc_gateway.sync import BlockingSession, connect
from rpyc_gateway.transport import without_secrets
from rpyc_gateway.weak import WeakTable

__all__ = ["Whereabouts", "shown"]

Url = str | Sequence[str]


class Whereabouts:
    """Opens sessions with nodes by their names; leaving it ends all that it has kept.

    `nodes` says for some names which URL leads to them. Any other node is behind the gateway of the configuration `file`, which is run in a thread
    from the first time on that one is asked for, and takes links of this process only; or, if there is no file, behind `url`.
    A session has to be there within `seconds`.
    """

    def __init__(self, url: str | None, nodes: Mapping[str, str], file: Path | None, seconds: float) -> None:
        self._url = url
        self._nodes = nodes
        self._config = None if file is None else Config.load(file)
        self._seconds = seconds
        self._gateway: _Gateway | None = None
        self._starting = threading.Lock()
        self._kept: dict[Url, BlockingSession] = {}
        self._redirected: WeakTable[BlockingSession, Any] = WeakTable()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        put_own_scripts_first()
        self._stack.enter_context(_what_children_print_is_logged())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for conn in self._kept.values():
            self._stack.callback(conn.close)
        self._stack.__exit__(kind, error, traceback)

    def connect(self, name: str | None, *, url: Url | None = None, **options: Any) -> BlockingSession:
        """A session, to be closed. Raises what `gw.connect` does; Unreachable if nothing says where the node is; RuntimeError in trio code."""
        if trio.lowlevel.in_trio_run():
            raise RuntimeError("gw_node and gw_connect block: a test in trio has `async with gw_open(...) as session:`")
        hops, node = self._way(name, url)
        with timeout(self._seconds):
            try:
                conn = connect(hops, node=node, **options)
            except LinkLost:
                if hops not in self._kept:
                    raise
                conn = connect(hops, node=node, **options)  # the link that was kept was dead, and nobody had noticed
            try:
                self._keep(hops, node, options)
                if _has_streams(options) and not is_board(conn):
                    handle = redirected_stdio(conn).__enter__().handle
                    self._redirected.keep(id(conn), conn, handle)  # dropped with the session
            except BaseException:
                conn.close()
                raise
        return conn

    def drain(self, conn: BlockingSession) -> None:
        """Let what the far side has printed arrive, for the test that is over now; from here on it prints over there."""
        handle = self._redirected.fact(id(conn))
        if handle is not None:
            with suppress(GatewayError, OSError), timeout(PATIENCE):
                handle.close()

    @asynccontextmanager
    async def open(
        self,
        name: str | None,
        told: Callable[[], AbstractContextManager[None]],
        *,
        url: Url | None = None,
        **options: Any,
    ) -> AsyncIterator[Session]:
        """The same for trio code, which bounds the time itself. `told` is entered while the session is opened, not for what the body raises."""
        async with AsyncExitStack() as opened:
            with told():
                hops, node = await trio.to_thread.run_sync(self._way, name, url, abandon_on_cancel=True)
                session = await opened.enter_async_context(open_session(hops, node=node, **options))
                if _has_streams(options):
                    with suppress(TypeError):  # it is a board
                        handle = (await redirected_stdio(session).__aenter__()).handle
                        opened.push_async_callback(_drain, handle)
            yield session

    def _way(self, name: str | None, url: Url | None) -> tuple[Url, str | None]:
        """Where to link to, and which node is meant there."""
        if url is not None:
            return url if isinstance(url, str) else tuple(url), name
        if name is not None and name in self._nodes:
            return self._nodes[name], None
        if self._config is not None:
            with self._starting:
                if self._gateway is None:
                    self._gateway = self._stack.enter_context(_Gateway(self._config))
            if name is not None:
                self._gateway.wait_route(name, self._seconds)
            return self._gateway.url, name
        if self._url is None:
            raise Unreachable(
                "nothing says where it is: --gw-url names a gateway, --gw-node NAME=URL one node, --gw-config a gateway to run; the ini file has gw_url,"
                " gw_nodes and gw_config for them"
            )
        return self._url, name

    def _keep(self, hops: Url, node: str | None, options: dict[str, Any]) -> None:
        """One more session keeps the link when nobody else uses it."""
        kept = self._kept.get(hops)
        if kept is None or kept.closed:
            self._kept[hops] = connect(hops, node=node, **options)


async def _drain(handle: Any) -> None:
    with trio.move_on_after(PATIENCE, shield=True), suppress(GatewayError, OSError):
        await handle.close()


class _Gateway:
    """The node of a configuration, in a thread; it listens where only this user comes. To be entered once."""

    def __init__(self, config: Config) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="rpyc-gw-")
        self.url = f"unix://{self._directory.name}/gw.sock"
        self._ready: SimpleQueue[tuple[Node, trio.lowlevel.TrioToken] | BaseException] = SimpleQueue()
        self._over = trio.Event()
        listening = config.but(listen=(Listen(url=self.url),))
        self._thread = threading.Thread(target=trio.run, args=(self._run, listening), name="rpyc-gateway of the tests")

    def __enter__(self) -> Self:
        self._thread.start()
        ready = self._ready.get()
        if isinstance(ready, BaseException):
            self._thread.join()
            self._directory.cleanup()
            raise ready
        self._node, self._token = ready
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._over.set)
        self._thread.join()
        self._directory.cleanup()

    async def _run(self, config: Config) -> None:
        try:
            async with open_node(config) as node:
                self._ready.put((node, trio.lowlevel.current_trio_token()))
                await self._over.wait()
        except Exception as error:  # noqa: BLE001  # whoever has started it is told
            self._ready.put(error)

    def wait_route(self, name: str, seconds: float) -> None:
        """Wait until there is a way to a node. Raises Unreachable if there is none in so many seconds."""
        trio.from_thread.run(self._wait_route, name, seconds, trio_token=self._token)

    async def _wait_route(self, name: str, seconds: float) -> None:
        with trio.move_on_after(seconds) as patience:
            await self._node.wait_route(name)
        if patience.cancelled_caught:
            known = self._node.nodes()
            there = ", ".join(info.name for info in known if info.state in ("self", "up"))
            absent = "".join(
                f"; {info.name or info.link}: {info.state}" for info in known if info.state not in ("self", "up")
            )
            raise Unreachable(f"no way to {name} after {seconds:g} s. There are: {there}{absent}")


def _has_streams(options: Mapping[str, Any]) -> bool:
    """Whether what a session prints is shown with what the test prints."""
    return bool(options.get("service", "classic") == "classic")


def shown(name: str | None, url: Url | None) -> str:
    """What was asked for, as it may be shown."""
    where = without_secrets(url) if isinstance(url, str) else " then ".join(map(without_secrets, url or ()))
    return " at ".join(map(str, filter(None, (name, where)))) or "the gateway"


@contextmanager
def _what_children_print_is_logged() -> Iterator[None]:
    """What nodes print that this process has started; so the report of a test that fails has it."""
    logger = logging.getLogger("rpyc_gateway.stdio")
    before = logger.level
    if before == logging.NOTSET:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
