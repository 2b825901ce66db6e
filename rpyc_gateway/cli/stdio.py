"""`rpyc-gw stdio`: a node on its standard streams, as `stdio:` URLs start it, at the end of an ssh for example."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rpyc_gateway.cli.options import config_option, log_to_stderr, verbosity
from rpyc_gateway.cli.run import run_node

if TYPE_CHECKING:
    from rpyc_gateway.config import Config
    from rpyc_gateway.gateway import Node

__all__ = ["configure", "stdio", "streams_closed"]

_OWN_STREAMS = "stdio:"


@click.command()
@click.option(
    "--name",
    metavar="NAME",
    help="The node's name.  [default: the configuration's, or the host's with the process number]",
)
@click.option(
    "--serve", metavar="SERVICE", multiple=True, help="Serve this to whoever reaches this node; may be repeated."
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Let other machines in, where inetd or systemd has taken a connection for it: nothing encrypts or authenticates it.",
)
@config_option
@verbosity
@click.pass_context
def stdio(ctx: click.Context, name: str | None, serve: tuple[str, ...], config: str | None, *, insecure: bool) -> None:
    """Run a node on standard input and output, until they close.

    Whoever started it may have it dial on (the service `dial`), so that a relay needs no configuration. inetd and systemd (Accept=yes) may
    start it for each connection that they take.
    """
    log_to_stderr(ctx)
    run_node(configure(name, serve, config, insecure=insecure), streams_closed)


def configure(
    name: str | None, serve: tuple[str, ...], file: str | None, *, insecure: bool = False, pickle: bool = False
) -> Config:
    """The configuration of the file, if there is one, with what the command line adds to it."""
    from rpyc_gateway.config import SERVICES, Config, Listen, NodeSection, Serve, process_name, unknown_service

    # Two people may each start a relay on one bastion: without a configuration the names must differ.
    given = Config.load(file) if file is not None else Config(node=NodeSection(name=process_name()))
    node, problems = (given.node, []) if name is None else NodeSection.read({"name": name})
    if problems:
        raise click.UsageError("; ".join(what for _, what in problems))
    for service in serve:
        if service not in SERVICES:
            raise click.UsageError(unknown_service(service))
    added = tuple(Serve(service=service, allow=("*",), pickle=pickle) for service in dict.fromkeys(serve))
    listen = given.listen
    if all(listener.url != _OWN_STREAMS for listener in listen):
        listen = (*listen, Listen(url=_OWN_STREAMS, insecure=insecure))
    kept = tuple(section for section in given.serve if section.service not in serve)
    return given.but(node=node, listen=listen, serve=(*kept, *added))


async def streams_closed(node: Node) -> None:
    """Wait until nobody can come any more."""
    await node.closed.wait()
