"""The pytest plug-in: fixtures with sessions to nodes (docs/testing.md). Nothing else is loaded until a test asks for one.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from rpyc_gateway.session import Session
    from rpyc_gateway.sync import BlockingSession
    from rpyc_gateway.whereabouts import Whereabouts

__all__ = ["GwNode", "GwOpen"]


_Opened = TypeVar("_Opened", covariant=True)


class Opens(Protocol[_Opened]):
    """What the fixtures are."""

    def __call__(
        self,
        name: str | None = None,
        *,
        url: str | Sequence[str] | None = None,
        via: Sequence[str] = (),
        service: str = "classic",
        pickle: bool = False,
    ) -> _Opened:
        """A session with the node of this name, behind `url` if that is given, else wherever the options say that it is.

        With a `url` alone it is with the node that is reached there. The rest is as for `gw.connect`.
        """
        ...


class GwNode(Opens["BlockingSession"], Protocol):
    """The fixtures `gw_node` and `gw_connect`."""


class GwOpen(Opens["AbstractAsyncContextManager[Session]"], Protocol):
    """The fixture `gw_open`: the session is that of an `async with`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """What can be said on the command line and in the ini file."""
    group = parser.getgroup("rpyc-gateway")
    group.addoption("--gw-url", metavar="URL", help="a gateway that knows the way to the nodes of gw_node(NAME)")
    group.addoption(
        "--gw-node", metavar="NAME=URL", action="append", default=[], help="where one of the nodes is; may be repeated"
    )
    group.addoption("--gw-config", metavar="FILE", help="the configuration of a gateway that is run for the tests")
    group.addoption("--gw-unreachable", choices=("fail", "skip"), help="what a test does whose node is not reached")
    group.addoption("--gw-timeout", metavar="SECONDS", help="how long to wait for a node (30)")
    parser.addini("gw_url", "a gateway that knows the way to the nodes of gw_node(NAME)")
    parser.addini("gw_nodes", "where nodes are: lines NAME = URL", type="linelist")
    parser.addini("gw_config", "the configuration of a gateway that is run for the tests")
    parser.addini("gw_unreachable", "what a test does whose node is not reached: fail or skip", default="fail")
    parser.addini("gw_timeout", "how many seconds to wait for a node", default="30")


@pytest.fixture(scope="session")
def _gw_whereabouts(pytestconfig: pytest.Config) -> Iterator[Whereabouts]:
    from rpyc_gateway.errors import ConfigError
    from rpyc_gateway.whereabouts import Whereabouts

    try:
        whereabouts = _read_options(pytestconfig, Whereabouts)
    except (ConfigError, ValueError) as problem:
        raise pytest.fail.Exception(f"rpyc-gateway: {problem}", pytrace=False) from None
    with whereabouts:
        yield whereabouts


def _read_options(config: pytest.Config, make: Callable[..., Whereabouts]) -> Whereabouts:
    if _unreachable(config) not in ("fail", "skip"):
        raise ValueError(f"gw_unreachable is fail or skip, not {_unreachable(config)!r}")
    seconds = _seconds(config)
    url, file, nodes = (config.getoption(name) for name in ("gw_url", "gw_config", "gw_node"))
    directory = config.invocation_params.dir
    if not url and not file:  # or what the ini file says of other places is not meant this time
        url, file, nodes = config.getini("gw_url"), config.getini("gw_config"), [*config.getini("gw_nodes"), *nodes]
        directory = config.rootpath if config.inipath is None else config.inipath.parent
    return make(url or None, dict(map(_node, nodes)), directory / file if file else None, seconds)


def _node(line: str) -> tuple[str, str]:
    name, equals, url = (part.strip() for part in line.partition("="))
    if not (name and equals and url):
        raise ValueError(f"a node is given as NAME=URL, not {line!r}")
    return name, url


def _unreachable(config: pytest.Config) -> Any:
    return config.getoption("gw_unreachable") or config.getini("gw_unreachable")


def _seconds(config: pytest.Config) -> float:
    text = config.getoption("gw_timeout") or config.getini("gw_timeout")
    try:
        seconds = float(text)
        if seconds > 0:  # which nan is not
            return seconds
    except ValueError:
        pass
    raise ValueError(f"gw_timeout is a number of seconds, not {text!r}")


@pytest.fixture(scope="session")
def gw_connect(_gw_whereabouts: Whereabouts, pytestconfig: pytest.Config) -> GwNode:
    """Sessions for fixtures of a module, or of all tests: called like `gw_node`, and whoever asks for one closes it (`with` does)."""

    def connect(name: str | None = None, **options: Any) -> BlockingSession:
        with _told(name, options, pytestconfig):
            return _gw_whereabouts.connect(name, **options)

    return connect


@pytest.fixture
def gw_node(gw_connect: GwNode, _gw_whereabouts: Whereabouts, request: pytest.FixtureRequest) -> Iterator[GwNode]:
    """Sessions for one test: called with the name of a node, it gives one. They are closed behind the test; their links are kept for the next."""
    with ExitStack() as opened:

        def connect(name: str | None = None, **options: Any) -> BlockingSession:
            conn = opened.enter_context(gw_connect(name, **options))
            opened.callback(_gw_whereabouts.drain, conn)
            request.node.add_report_section("call", "gw_node", f"{' -> '.join(conn.path)}\n")
            return conn

        yield connect


@pytest.fixture
def gw_open(_gw_whereabouts: Whereabouts, pytestconfig: pytest.Config) -> GwOpen:
    """Sessions for tests in trio: called like `gw_node`, it gives the argument of an `async with`."""

    def open_node(name: str | None = None, **options: Any) -> AbstractAsyncContextManager[Session]:
        return _gw_whereabouts.open(name, lambda: _told(name, options, pytestconfig), **options)

    return open_node


class _Told:
    """Tells whoever reads the report why there is no session: in a line, not in a traceback of ours."""

    def __init__(self, what: str, *, skips: bool) -> None:
        self._what = what
        self._skips = skips

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        from rpyc_gateway.errors import GatewayError, LinkLost, SessionClosed, TimedOut, Unreachable

        if isinstance(error, GatewayError):
            message = f"{self._what}: {type(error).__name__}: {error}"
            if self._skips and isinstance(error, Unreachable | LinkLost | SessionClosed | TimedOut):
                raise pytest.skip.Exception(message) from None
            raise pytest.fail.Exception(message, pytrace=False) from None


def _told(name: str | None, options: dict[str, Any], config: pytest.Config) -> _Told:
    from rpyc_gateway.whereabouts import shown

    return _Told(f"no session with {shown(name, options.get('url'))}", skips=_unreachable(config) == "skip")
