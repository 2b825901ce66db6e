"""`rpyc-gw demo`: a chain of three processes on this machine, and a walk through it as a user would take it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rpyc_gateway.cli.options import chattiness, log_to_stderr, verbosity
from rpyc_gateway.cli.run import put_own_scripts_first

if TYPE_CHECKING:
    from rpyc_gateway.sync import BlockingSession

__all__ = ["CHAIN", "Hq", "connect_when_up", "demo", "running_chain"]

# configs/chain.toml without its comments, with a socket of our own; a test holds the two together.
CHAIN = """\
[node]
name = "hq"
[[listen]]
url = {url}
[[dial]]
url = "stdio:rpyc-gw stdio --name relay"
[[dial]]
via = "relay"
url = "stdio:rpyc-gw stdio --name lab --serve classic"
"""

_READY_WITHIN = 30.0  # three interpreters start one after the other; a small board takes its time
_END_WITHIN = 10.0


@click.command()
@verbosity
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Start a chain of three nodes on this machine and walk through it.

    Needs no network, no service and no rights; leaves no process behind.
    """
    log_to_stderr(ctx)
    began = time.perf_counter()
    with (
        _signals_like_ctrl_c(ctx),
        TemporaryDirectory(prefix="rpyc-gw-demo-") as directory,
        running_chain(Path(directory), chatty=chattiness(ctx)) as hq,
    ):
        _walk(hq)
    click.echo(f"\nThe three processes have ended. All of it took {time.perf_counter() - began:.1f} s.")


@contextmanager
def _signals_like_ctrl_c(ctx: click.Context) -> Iterator[None]:
    """SIGTERM and SIGHUP unwind us as Ctrl-C does, which links wait with until they are in order; only the exit code is another."""
    came: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, usual in before.items():
        if usual is not signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    try:
        yield
    except BaseException:
        if came:
            ctx.exit(128 + came[0])
        raise
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


# ---- the chain


class Hq(NamedTuple):
    """The process at the near end of the chain."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running_chain(directory: Path, *, chatty: int = 0) -> Iterator[Hq]:
    """Start hq, which starts the others; leaving ends them all. If the body fails, what hq had to say is told on stderr.

    Raises ConfigError if there can be no socket in this directory.
    """
    socket, config, log = (directory / name for name in ("hq.sock", "chain.toml", "hq.log"))
    url = f"unix://{socket}"
    _check_socket(url)
    config.write_text(CHAIN.format(url=_toml_string(url)), encoding="utf-8")
    put_own_scripts_first()
    command = [sys.executable, "-m", "rpyc_gateway", "run", "--config", str(config)]
    with log.open("wb") as kept:
        # In a session of its own: Ctrl-C is for us, and whatever hq starts can be found by its process group.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if chatty > 0 else kept,
            start_new_session=True,
        )
    try:
        yield Hq(url, process)
    except BrokenPipeError:  # nobody reads us any more, which is no fault of hq's
        raise
    except Exception:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]:
            click.echo(f"hq: {line}", err=True)
        raise
    finally:
        _end(process)


def _check_socket(url: str) -> None:
    from rpyc_gateway.errors import ConfigError
    from rpyc_gateway.transport import find_transport

    problem = find_transport(url).check(url)
    if problem is not None:
        raise ConfigError([f"{url}: {problem}; TMPDIR says where the demo puts it: TMPDIR=/tmp rpyc-gw demo"])


def _toml_string(text: str) -> str:
    # JSON escapes what TOML wants escaped, but for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def connect_when_up(hq: Hq, *, node: str | None = "lab", service: str = "classic") -> BlockingSession:
    """A session with lab. Raises what the last attempt raised if the chain is not up in time, or if hq has ended."""
    from rpyc_gateway.errors import Unreachable
    from rpyc_gateway.sync import connect

    deadline = time.monotonic() + _READY_WITHIN
    while True:
        try:
            return connect(hq.url, node=node, service=service)
        except Unreachable:
            if hq.process.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Orderly, or else with everything it has started."""
    process.terminate()
    try:
        process.wait(_END_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- the walk


def _walk(hq: Hq) -> None:
    click.echo(
        "hq listens on a unix socket and starts a relay; the relay starts a node named lab, which only it can reach:\n"
    )
    click.echo("    you ── hq ── relay ── lab\n")
    with _told('conn = gw.connect(url, node="lab")', "reach lab through hq and relay, as soon as they are up") as tell:
        conn = connect_when_up(hq)
        tell(f"lab is process {conn.modules.os.getpid()}, this is process {os.getpid()}")
    with conn:
        for code, story, step in _STEPS:
            with _told(code, story) as tell:
                tell(step(conn))
    with _told(
        'await lab.modules.os.path.join("a", "b")', "the same in trio code: one round trip for the expression"
    ) as tell:
        tell(_trio_expression(hq.url))


@contextmanager
def _told(code: str, story: str) -> Iterator[Callable[[str], None]]:
    click.echo(f">>> {code}")
    lines: list[str] = []
    began = time.perf_counter()
    yield lines.append
    took = (time.perf_counter() - began) * 1000
    click.echo("\n".join(f"    {line}" for line in lines))
    click.echo(f"    ({story}: {took:.1f} ms)")


def _list_directory(conn: Any) -> str:
    there = conn.modules.os
    names = sorted(there.listdir("/"))
    sizes = [f"{name} ({there.stat(there.path.join('/', name)).st_size} bytes)" for name in names[:3]]
    return f"{', '.join(sizes)} and {len(names) - len(sizes)} more"


def _append_to_path(conn: Any) -> str:
    conn.modules.sys.path.append("lucy")
    return repr(conn.modules.sys.path[-1])


def _see_exception(conn: Any) -> str:
    try:
        conn.builtins.open("/no/such/file")
    except FileNotFoundError as exc:
        return f"FileNotFoundError: {exc}"
    raise AssertionError("/no/such/file exists")


def _pass_callback(conn: Any) -> str:
    calls: list[int] = []

    def add_one(number: int) -> int:
        calls.append(number)
        return number + 1

    conn.execute("def twice(f, x): return f(f(x))")
    result = conn.namespace["twice"](add_one, 40)
    return f"{result}; lab called our function with {' and '.join(map(str, calls))}"


def _trio_expression(url: str) -> str:
    import trio

    from rpyc_gateway.client import open_session

    async def main() -> str:
        async with open_session(url, node="lab") as lab:
            return repr(await lab.modules.os.path.join("a", "b"))

    return trio.run(main)


_STEPS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ('conn.modules.os.listdir("/")', "list a directory on lab", _list_directory),
    ('conn.modules.sys.path.append("lucy")', "change an object on lab and read it back", _append_to_path),
    ('conn.builtins.open("/no/such/file")', "an exception there is an exception here", _see_exception),
    (
        'conn.namespace["twice"](lambda x: x + 1, 40)',
        "define a function on lab and pass it one of ours",
        _pass_callback,
    ),
)
