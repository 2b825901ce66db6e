"""The blocking face: one background thread runs trio; any number of threads use its sessions."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self

import trio
from pydantic import ValidationError

from rpyc_gateway import deadlines
from rpyc_gateway.client import Way, open_way
from rpyc_gateway.config import (
    SERVICES,
    Config,
    Listen,
    NodeSection,
    Serve,
    default_name,
    explain,
    unknown_service,
)
from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.errors import ConfigError, GatewayError, SessionClosed, TimedOut
from rpyc_gateway.gateway import open_node
from rpyc_gateway.places import Runs, main_thread
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proxy import Proxy, blocking_proxy
from rpyc_gateway.service import Service
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session

__all__ = ["BlockingSession", "connect", "serve"]


def connect(
    url: str | Sequence[str],
    *,
    node: str | None = None,
    via: Sequence[str] = (),
    service: str = "classic",
    name: str | None = None,
    pickle: bool = False,
) -> BlockingSession:
    """A session with a service of a node, for blocking code. Use it in a `with`, or close() it.

    Args:
        url: where to link to, or a list of hops, each further one dialled by the node before it.
        node: the name of the node wanted, as the last hop knows it; None is the last hop itself.
        via: names of nodes that must be passed on the way to `node`.
        service: what is wanted there; "classic" is the whole interpreter.
        name: how this process is called in logs and errors of the nodes on the way.
        pickle: let `obtain` and `deliver` pickle what is no plain data, if the far side allows that too: it can then run any code here.

    Several sessions to one `url` under one `name` share a link. Interrupted (Ctrl-C), nothing is left open.

    For trio code there is `open_session`: this function blocks, and raises RuntimeError there.

    Within `gw.timeout` it takes no longer than that: TimedOut, and nothing is left open.

    Raises:
        DialFailed, Unreachable, NoService, Denied, DuplicateNode, ProtocolError: the message names the hop.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("connect() blocks, and this thread runs trio: use `async with gw.open_session(...)` here")
    hops = (url,) if isinstance(url, str) else tuple(url)
    return _background().connect(hops, name, node, tuple(via), service, pickle=pickle)


class BlockingSession:
    """A session as RPyC's users know it: `modules`, `builtins`, `namespace`, `eval`, `execute`, `root`, `ping`, `close`, `closed`."""

    def __init__(self, session: Session, close: Callable[[], None]) -> None:
        self._session = session
        self._close = close
        self._root = blocking_proxy(session.held_root)
        self.modules = RemoteModules(self._root)

    def __repr__(self) -> str:
        return repr(self._session).replace("<Session", "<BlockingSession", 1)

    @property
    def root(self) -> Any:
        """The root of what the far side serves."""
        return self._root

    @property
    def builtins(self) -> Any:
        """The far side's builtins."""
        return self._root.builtins

    builtin = builtins

    @property
    def namespace(self) -> Any:
        """The dict in which `eval` and `execute` run."""
        return self._root.namespace

    def eval(self, text: str) -> Any:
        """Evaluate an expression there."""
        return self._root.eval(text)

    def execute(self, text: str) -> None:
        """Execute statements there."""
        self._root.execute(text)

    def ping(self, data: object = None) -> object:
        """Send `data` there and back. Raises LinkLost or SessionClosed if that cannot be."""
        return self._session.held_root.caller.ask(0, ((Verb.VALUE, 0, data),))

    @property
    def path(self) -> tuple[str, ...]:
        """The nodes of the circuit, this process first."""
        return self._session.path

    @property
    def closed(self) -> bool:
        """Whether the session is over, on either side."""
        return self._session.closed

    def close(self) -> None:
        """End the session, and its link if nobody else uses it. No harm if it is over."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()


class RemoteModules:
    """`conn.modules.os`, `conn.modules["os.path"]`, `"os" in conn.modules`: each module is asked for once."""

    def __init__(self, root: Proxy) -> None:
        self._root = root
        self._known: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        module = self._known.get(name)
        if module is None:
            module = self._known[name] = self._root.getmodule(name)
        return module

    def __contains__(self, name: str) -> bool:
        try:
            self[name]
        except ImportError:
            return False
        return True

    def __repr__(self) -> str:
        return f"<remote modules, {len(self._known)} known>"


# -- the background thread ----------------------------------------------------------------------------------------------


ABANDON = 5.0
"""Seconds that the end of an abandoned attempt may take: longer than a child is given to go by itself."""


class _Shared:
    """A way that several sessions use; it ends with the last of them."""

    def __init__(self) -> None:
        self.users = 0
        self.way: Way | None = None
        self.failure: BaseException | None = None
        self.ready = trio.Event()
        self.unused = trio.Event()
        self.over = trio.Event()
        self.attempt = trio.CancelScope()


class _Background:
    """The thread that runs trio for all blocking sessions of this process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._ready = threading.Event()
        self._ways: dict[tuple[tuple[str, ...], str | None], _Shared] = {}
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="rpyc-gateway trio", daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()

    def run(
        self,
        function: Callable[..., Any],
        *args: object,
        deadline: Deadline | None = None,
        undo: Callable[[Any], object] | None = None,
    ) -> Any:
        """Run an async function in the thread, and wait, no longer than to `deadline`.

        Interrupted or late, it is cancelled before this returns; what it came to all the same is given to `undo`.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call in the thread that runs trio")
        scope = trio.CancelScope()

        async def scoped() -> Any:
            with scope:
                return await function(*args)
            return None

        waiting = _Result()
        self._token.run_sync_soon(lambda: self._nursery.start_soon(waiting.fill, scoped))
        try:
            return waiting.wait(deadline)
        except BaseException:
            if not waiting.done.is_set():  # KeyboardInterrupt, or it is too late
                self._token.run_sync_soon(scope.cancel)
                waiting.done.wait()
            if undo is not None and waiting.value is not None:
                undo(waiting.value)
            raise

    def connect(
        self,
        hops: tuple[str, ...],
        name: str | None,
        node: str | None,
        via: tuple[str, ...],
        service: str,
        *,
        pickle: bool,
    ) -> BlockingSession:
        """Open a session, over a link that is there already if it can be."""
        deadline = deadlines.current()
        if deadline is not None:
            deadline.check()
        session, over = self.run(
            partial(self._open, hops, name, node, via, service, pickle=pickle),
            deadline=deadline,
            undo=lambda opened: self._close(*opened),
        )
        return BlockingSession(session, lambda: self._close(session, over))

    def _close(self, session: Session, over: trio.Event) -> None:
        if self.pid != os.getpid():
            return  # the session belongs to the process that forked this one
        if threading.current_thread() is self._thread:
            session.close()
            return
        self.run(self._close_async, session, over)

    @staticmethod
    async def _close_async(session: Session, over: trio.Event) -> None:
        session.close()
        await over.wait()

    async def _open(
        self,
        hops: tuple[str, ...],
        name: str | None,
        node: str | None,
        via: tuple[str, ...],
        service: str,
        *,
        pickle: bool,
    ) -> tuple[Session, trio.Event]:
        over = trio.Event()
        shared = await self._way(hops, name)
        try:
            assert shared.way is not None
            way_in = partial(shared.way.session, node, via=via, service=service, pickle=pickle)
            session = await self._nursery.start(self._hold_session, shared, way_in, over)
        except BaseException:
            self._leave(shared)
            raise
        return session, over

    async def _hold_session(
        self,
        shared: _Shared,
        way_in: Callable[[], AbstractAsyncContextManager[Session]],
        over: trio.Event,
        *,
        task_status: trio.TaskStatus[Session],
    ) -> None:
        started = False
        try:
            async with way_in() as session:
                started = True
                task_status.started(session)
                await session.wait_closed()
        except GatewayError:
            if not started:
                raise
        finally:
            if started:
                self._leave(shared)
            over.set()

    async def _way(self, hops: tuple[str, ...], name: str | None) -> _Shared:
        """The shared way for these hops, with this caller counted among its users."""
        key = (hops, name)
        shared = self._ways.get(key)
        if shared is None or shared.unused.is_set() or (shared.way is not None and shared.way.connection.mux.down):
            shared = self._ways[key] = _Shared()
            self._nursery.start_soon(self._hold_way, key, shared)
        shared.users += 1
        try:
            await shared.ready.wait()
            if shared.failure is not None:
                raise shared.failure.with_traceback(None)
        except BaseException:
            self._leave(shared)
            if shared.users == 0:
                with trio.move_on_after(
                    ABANDON, shield=True
                ):  # what was started for us, a child say, ends before we return
                    await shared.over.wait()
            raise
        return shared

    async def _hold_way(self, key: tuple[tuple[str, ...], str | None], shared: _Shared) -> None:
        try:
            with shared.attempt:
                async with open_way(key[0], name=key[1]) as shared.way:
                    shared.ready.set()
                    await shared.unused.wait()
        except Exception as error:  # noqa: BLE001  # told to whoever waits for the way; a broken link is told by its sessions
            shared.failure = error
        finally:
            shared.ready.set()
            shared.unused.set()
            shared.over.set()
            if self._ways.get(key) is shared:
                del self._ways[key]

    @staticmethod
    def _leave(shared: _Shared) -> None:
        shared.users -= 1
        if shared.users == 0:
            shared.unused.set()
            if shared.way is None:
                shared.attempt.cancel()


class _Result:
    """One result, from the trio thread to a thread that waits."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.value: Any = None
        self._error: BaseException | None = None

    async def fill(self, function: Callable[[], Any]) -> None:
        try:
            self.value = await function()
        except trio.Cancelled:
            self._error = SessionClosed("the background thread is ending")
            raise
        except Exception as error:  # noqa: BLE001  # raised again in the thread that waits
            self._error = error
        finally:
            self.done.set()

    def wait(self, deadline: Deadline | None) -> Any:
        while not self.done.wait(None if deadline is None else deadline.wait):
            if deadline is not None and deadline.left <= 0:
                raise TimedOut(f"{deadline.patience} is over, and nothing has come of it: what was begun is undone")
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self.value


_lock = threading.Lock()
_running: _Background | None = None


def _background() -> _Background:
    global _running
    with _lock:
        if _running is None or _running.pid != os.getpid():
            _running = _Background()
        return _running


# -- serving ------------------------------------------------------------------------------------------------------------


def serve(
    service: type[Service] | Service | str,
    url: str,
    *,
    name: str | None = None,
    pickle: bool = False,
    runs: Runs = "threads",
) -> None:
    """Serve until interrupted: a Service (a class: one instance for each session), or "classic", to whoever can reach `url`.

    A Service is served under its `service_name`; "classic" is the whole interpreter. `runs` says where its code runs: in "threads", as many
    at once as there are callers; in the "main" thread of this process, one call after the other; or in the "trio" thread, inline, which is for
    code that never blocks and gets proxies to be awaited. With "main", call this in the main thread; SIGTERM ends it in order too. Raises ConfigError for a URL that cannot be listened
    on, among them any that other machines can reach (until transport security exists; write a configuration with `insecure = true` if
    you must). With `pickle`, clients that allow it too may send and get pickles: they can then run any code here.
    """
    label = _label(service)
    try:
        config = Config(
            node=NodeSection(name=name or default_name()),
            listen=(Listen(url=url),),
            serve=(Serve(service=service, allow=("*",), pickle=pickle, runs=runs),) if isinstance(service, str) else (),
        )
    except ValidationError as error:
        raise ConfigError([f"{url}: {explain(problem)}" for problem in error.errors()]) from error
    services = {} if isinstance(service, str) else {label: Offer(_root_of(service), ("*",), pickle, runs)}

    async def main(told: trio.Event) -> None:
        async with open_node(config, services=services) as node, trio.open_nursery() as ends:
            for wait_end in (node.closed.wait, told.wait):
                ends.start_soon(_end_with, wait_end, ends.cancel_scope)

    if runs != "main":
        trio.run(main, trio.Event())
        return
    heard = main_thread.run(main, [signal.SIGINT, signal.SIGTERM])
    if heard is signal.SIGINT:
        raise KeyboardInterrupt
    if heard is not None:
        signal.raise_signal(heard)


async def _end_with(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel()


def _label(service: object) -> str:
    if isinstance(service, str):
        if service not in SERVICES:
            raise ConfigError([unknown_service(service)])
        return service
    if isinstance(service, Service) or (isinstance(service, type) and issubclass(service, Service)):
        return service.service_name()
    raise TypeError(f"what is served is a Service, a class of them, or the name of a service, not {service!r}")


def _root_of(service: type[Service] | Service) -> Callable[[], Service]:
    return service if isinstance(service, type) else lambda: service
