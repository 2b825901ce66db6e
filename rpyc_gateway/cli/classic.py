"""`rpyc-gw classic`: serves the whole interpreter, with the options of `rpyc_classic`. What these mean here, for its users, is in docs/from-rpyc.md."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import click

from rpyc_gateway.cli.options import chattiness, log_to_file, log_to_stderr, verbosity
from rpyc_gateway.cli.run import run_for_ever, run_node, until_signal
from rpyc_gateway.cli.stdio import configure, streams_closed

if TYPE_CHECKING:
    from rpyc_gateway.config import Config
    from rpyc_gateway.gateway import Node, Offer

__all__ = ["classic"]

PORT, TLS_PORT = 18812, 18821  # RPyC's, so that its users find what they look for
NO_REGISTRY = (
    "--register: there is no registry here: nodes tell each other whom they reach. Have a gateway dial this one, by [[dial]] in its "
    "configuration, and let clients ask that for this node by its name (docs/from-rpyc.md)"
)
UNGUARDED = (
    "other machines can reach this, and whoever does can do whatever you can. Say whom to let in, by --ssl-certfile, "
    "--ssl-keyfile and --ssl-cafile; or --insecure, if you mean it"
)
_PLACE = ("port", "host", "ipv6", "ssl_keyfile", "ssl_certfile", "ssl_cafile")
_REGISTRY = ("registry_type", "registry_port", "registry_host")

_file = click.Path(exists=True, dir_okay=False)


@click.command()
@click.option(
    "-m",
    "--mode",
    type=click.Choice(["threaded", "forking", "stdio", "oneshot"]),
    default="threaded",
    help="threaded: one process; forking: one for each client; stdio: on its standard streams; oneshot: for one client.  [default: threaded]",
)
@click.option(
    "-p",
    "--port",
    type=click.IntRange(0, 65535),
    help=f"The TCP port, 0 for a free one.  [default: {PORT}, with TLS {TLS_PORT}]",
)
@click.option("--host", metavar="HOST", help="The address to listen on.  [default: the loopback]")
@click.option("--ipv6", is_flag=True, help="Listen on the loopback of IPv6, if there is no --host.")
@click.option("--insecure", is_flag=True, help="Let other machines in: nothing encrypts or authenticates them.")
@click.option("--ssl-keyfile", type=_file, help="TLS: the key of this node.")
@click.option("--ssl-certfile", type=_file, help="TLS: its certificate.")
@click.option("--ssl-cafile", type=_file, help="TLS: the authority that signed the certificates of those who may come.")
@click.option("--pickle", is_flag=True, help="Take pickles from clients, and make some for those that take them too.")
@click.option(
    "--name",
    metavar="NAME",
    help="The node's name.  [default: the host's; with the process number in the modes forking and stdio]",
)
@click.option("--logfile", metavar="FILE", type=click.Path(), help="Log to this file.  [default: standard error]")
@click.option("--register", is_flag=True, help="Is refused: there is no registry.")
@click.option("--registry-type", type=click.Choice(["UDP", "TCP"], case_sensitive=False), hidden=True)
@click.option("--registry-port", type=click.IntRange(0, 65535), hidden=True)
@click.option("--registry-host", hidden=True)
@verbosity
@click.pass_context
def classic(ctx: click.Context, /, **given: Any) -> None:
    """Serve the whole interpreter of this process, as `rpyc_classic` does.

    `rpyc_gateway.connect("tcp://localhost:18812")` reaches it, and `[[dial]]` makes it a node of a network. Whoever comes owns this process: by
    default that is every user of this machine, and nobody else. Clients of RPyC itself are not understood.
    """
    if given["register"]:
        raise click.UsageError(NO_REGISTRY)
    for unused in _REGISTRY:
        if given[unused] is not None:
            click.echo(f"{_option(unused)} says nothing without --register", err=True)
    run = _MODES[given["mode"]]
    _begin_log(ctx, given["logfile"], usual=logging.WARNING if given["mode"] == "stdio" else logging.INFO)
    run(ctx, given)


def _begin_log(ctx: click.Context, file: str | None, *, usual: int) -> None:
    if chattiness(ctx) < 0:
        usual = logging.WARNING  # -q leaves errors, as in RPyC
    if file is None:
        log_to_stderr(ctx, usual=usual)
        return
    try:
        log_to_file(ctx, file, usual=usual)
    except OSError as exc:
        raise click.UsageError(f"--logfile: {exc}") from exc


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


# -- the modes ----------------------------------------------------------------------------------------------------------


def _threaded(_ctx: click.Context, given: Mapping[str, Any]) -> None:
    run_for_ever(_configure(given))


def _stdio(_ctx: click.Context, given: Mapping[str, Any]) -> None:
    for parameter in _PLACE:
        if given[parameter] is not None and given[parameter] is not False:  # 0 is a port
            what = "nobody is listened for in the mode stdio: at the other end is whoever has started this"
            raise click.UsageError(f"{_option(parameter)}: {what}")
    config = configure(given["name"], ("classic",), None, insecure=given["insecure"], pickle=given["pickle"])
    run_node(config, streams_closed)


def _forking(ctx: click.Context, given: Mapping[str, Any]) -> None:
    import trio

    from rpyc_gateway.cli.forking import fork_for_each

    if given["ssl_keyfile"]:
        raise click.UsageError(
            "--ssl-keyfile: the mode forking has no TLS: take threaded, or inetd behind something that has"
        )
    _configure(given)  # what is wrong with the rest is wrong here, too
    host, port = _place(given)
    command = [sys.executable, "-m", "rpyc_gateway", "classic", "-m", "stdio"]
    command += [f"--{flag}" for flag in ("insecure", "pickle") if given[flag]]
    command += [f"--{option}={given[option]}" for option in ("name", "logfile") if given[option]]
    chatty = chattiness(ctx)
    command += ["-v"] * chatty or ["-q"] * -chatty
    trio.run(until_signal, partial(fork_for_each, None if host == "*" else host, port, command))


def _oneshot(_ctx: click.Context, given: Mapping[str, Any]) -> None:
    """Say where, serve one session, and return when that is over. Whoever else comes is refused."""
    config = _configure(given)
    offer, wait_over = _once(config.node.name, pickle=given["pickle"])

    async def tell_and_wait(node: Node) -> None:
        click.echo("rpyc-oneshot")
        for url in node.urls:
            place = urlsplit(url)
            click.echo(f"{place.hostname}\t{place.port}")
        await wait_over()

    run_node(config, tell_and_wait, services={"classic": offer})


_MODES = {"threaded": _threaded, "forking": _forking, "stdio": _stdio, "oneshot": _oneshot}


# -- where it listens ---------------------------------------------------------------------------------------------------


def _place(given: Mapping[str, Any]) -> tuple[str, int]:
    host = given["host"] or ("::1" if given["ipv6"] else "127.0.0.1")
    if given["ipv6"] and host.replace(".", "").isdecimal():
        raise click.UsageError(f"--ipv6: {host} is an address of IPv4")
    usual = TLS_PORT if given["ssl_keyfile"] else PORT
    return host, usual if given["port"] is None else given["port"]


def _url(given: Mapping[str, Any]) -> str:
    host, port = _place(given)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    key, cert, ca = given["ssl_keyfile"], given["ssl_certfile"], given["ssl_cafile"]
    if not (key or cert or ca):
        return f"tcp://{place}"
    if not (key and cert):
        raise click.UsageError("TLS needs both --ssl-keyfile and --ssl-certfile")
    options = {"cert": cert, "key": key, **({"client_ca": ca} if ca else {})}
    return f"tls://{place}?{urlencode(options, safe='/', quote_via=quote)}"


def _configure(given: Mapping[str, Any]) -> Config:
    """A node that serves classic at this place. Raises UsageError for options that cannot be, or that let in anybody from anywhere."""
    from rpyc_gateway.config import UNPROTECTED, Config
    from rpyc_gateway.transport import without_secrets

    url = _url(given)
    config, problems = Config.read(
        {
            "node": {"name": given["name"]} if given["name"] is not None else {},
            "listen": ({"url": url, "insecure": given["insecure"]},),
            "serve": ({"service": "classic", "allow": ("*",), "pickle": given["pickle"]},),
        }
    )
    if config is not None:
        return config
    told = []
    for path, what in problems:
        said = UNGUARDED if what.startswith(UNPROTECTED) else what
        shown = without_secrets(url)
        told.append(f"{shown}: {said}" if path[0] == "listen" and not said.startswith(shown) else said)
    raise click.UsageError("; ".join(told))


def _once(name: str, *, pickle: bool) -> tuple[Offer, Callable[[], Awaitable[None]]]:
    """An offer of `classic` to whoever comes first, and what waits for the end of that session."""
    import trio

    from rpyc_gateway.errors import Denied
    from rpyc_gateway.gateway import Offer
    from rpyc_gateway.service import ClassicService

    over = trio.Event()
    came: list[object] = []

    class Once(ClassicService):
        def on_connect(self, session: object) -> None:
            if came:
                raise Denied(f"{name} serves one client (oneshot), and that was another", hop=name)
            came.append(session)

        def on_disconnect(self, session: object) -> None:
            if session in came:
                over.set()

    return Offer(Once, ("*",), pickle), over.wait
