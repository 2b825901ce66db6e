"""The blocking face: sessions that any number of threads may use, and serving in one line."""

from __future__ import annotations

import functools
import inspect
import signal
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import trio

from rpyc_gateway.admission import passed
from rpyc_gateway.background import background
from rpyc_gateway.boards import open_node
from rpyc_gateway.client import hops_of
from rpyc_gateway.config import (
    SERVICES,
    Config,
    default_name,
    unknown_service,
)
from rpyc_gateway.errors import ConfigError
from rpyc_gateway.pickling import allows_pickles
from rpyc_gateway.places import Runs, main_thread
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proxy import Proxy, blocking_proxy
from rpyc_gateway.service import Service
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session
from rpyc_gateway.teleporting import teleport
from rpyc_gateway.transport import without_secrets

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
    hops, nodes = hops_of(url), passed(via)
    session, close = background().connect(
        hops, name, lambda way: way.session(node, via=nodes, service=service, pickle=pickle)
    )
    return BlockingSession(session, close)


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

    def teleport(self, function: Callable[..., Any]) -> Any:
        """A function of this process, made again there: see `teleport`."""
        return teleport(self, function)

    def ping(self, data: object = None) -> object:
        """Send `data` there and back. Raises LinkLost or SessionClosed if that cannot be."""
        return self._session.held_root.caller.ask(0, ((Verb.VALUE, 0, data),))

    @property
    def path(self) -> tuple[str, ...]:
        """The nodes of the circuit, this process first."""
        return self._session.path

    @property
    def pickles(self) -> bool:
        """Whether both ends allow pickles, for what is no plain data."""
        return allows_pickles(self._session.rpc)

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


# -- serving ------------------------------------------------------------------------------------------------------------


def serve(
    service: type[Service] | Service | functools.partial[Service] | str,
    url: str,
    *,
    name: str | None = None,
    pickle: bool = False,
    runs: Runs = "threads",
) -> None:
    """Serve until interrupted (KeyboardInterrupt): a Service (a class: one instance for each session), or "classic", to whoever can reach `url`.

    `functools.partial(Lab, "stage", port=3)` is a class whose instances are made with these arguments. A Service is served under its
    `service_name`; "classic" is the whole interpreter. `runs` says where its code runs: in "threads", as many
    at once as there are callers; in the "main" thread of this process, one call after the other; or in the "trio" thread, inline, which is for
    code that never blocks and gets proxies to be awaited. With "main", call this in the main thread; SIGTERM ends it in order too. Raises ConfigError for a URL that cannot be listened
    on, among them any that other machines can reach and where anybody there may come (`tls://` with `client_ca` lets in whom it can name;
    a configuration can say `insecure = true`), and TypeError for a class that cannot be made so. With `pickle`, clients that allow it too may send and get pickles: they can then run any code here.
    """
    label = _label(service)
    served = {"service": service, "allow": ("*",), "pickle": pickle, "runs": runs}
    config, problems = Config.read(
        {
            "node": {"name": name or default_name()},
            "listen": ({"url": url},),
            "serve": (served,) if isinstance(service, str) else (),
        }
    )
    if config is None:
        raise ConfigError([f"{without_secrets(url)}: {what}" for _, what in problems])
    services = {} if isinstance(service, str) else {label: Offer(_root_of(service), ("*",), pickle, runs)}

    async def main(told: trio.Event) -> None:
        async with open_node(config, services=services) as node, trio.open_nursery() as ends:
            for wait_end in (node.closed.wait, told.wait):
                ends.start_soon(_end_with, wait_end, ends.cancel_scope)

    if runs != "main":
        try:
            trio.run(main, trio.Event())
        except BaseExceptionGroup as group:
            if group.split(KeyboardInterrupt)[1] is not None:
                raise
            raise KeyboardInterrupt from None  # whoever catches it expects no group
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
    kind = service.func if isinstance(service, functools.partial) else service
    if isinstance(kind, type) and issubclass(kind, Service):
        return kind.service_name()
    if isinstance(service, Service):
        return service.service_name()
    raise TypeError(
        f"what is served is a Service, a class of them (with arguments: functools.partial), or the name of a service, not {service!r}"
    )


def _root_of(service: type[Service] | Service | functools.partial[Service]) -> Callable[[], Service]:
    if isinstance(service, Service):
        return lambda: service
    making = functools.partial(service)  # of a partial it is that one's arguments
    try:
        inspect.signature(making.func).bind(*making.args, **making.keywords)
    except TypeError as exc:  # or every session would end with it
        kind = _label(service)
        raise TypeError(
            f"no {kind!r} can be made for a session ({exc}): serve functools.partial(class, arguments...), or an instance"
        ) from exc
    return service
