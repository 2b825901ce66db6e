"""`python -m rpyc_gateway.testing`: check a transport, and be the other end of one that is checked from another process."""

from __future__ import annotations

from importlib import import_module

import click
import trio

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.testing.partner import Layer, Partner, as_it_is
from rpyc_gateway.testing.transports import RULES, TransportFault, check_transport
from rpyc_gateway.transport import find_transport

__all__ = ["main"]


class LayerType(click.ParamType[Layer]):
    """`package.module:name` of what goes between a pipe and its user."""

    name = "module:name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Layer:
        module, _, name = value.partition(":")
        try:
            layer: Layer = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as exc:
            self.fail(f"{value}: {exc}", param, ctx)
        return layer


layer_option = click.option("--layer", type=LayerType(), help="What makes an unreliable pipe a reliable one.")


@click.group()
def main() -> None:
    """Check transports, and be cruel to them."""


@main.command()
@click.argument("url")
@click.option(
    "--alone", is_flag=True, help="This process may be killed to see what becomes of the pipe: it has no other."
)
@layer_option
def serve(url: str, alone: bool, layer: Layer | None) -> None:  # noqa: FBT001  so click calls it
    """Be the other end for a check that runs elsewhere: serve at URL until interrupted."""
    partner = Partner(layer or as_it_is, alone=alone)

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            urls = await nursery.start(find_transport(url).serve, url, partner)
            click.echo(f"serving at {', '.join(urls)}", err=True)

    try:
        trio.run(run)
    except* ConfigError as group:
        raise click.ClickException(str(group.exceptions[0])) from None


@main.command()
@click.argument("url", required=False)
@click.option("--dial", metavar="URL", help="What to dial; without it, what is served.")
@click.option("--rule", "rules", type=click.Choice(list(RULES)), multiple=True, help="Only this one; may be repeated.")
@click.option("--many", default=50, show_default=True, help="Connections at once.")
@layer_option
def check(url: str | None, dial: str | None, rules: tuple[str, ...], many: int, layer: Layer | None) -> None:
    """Hold a transport to the rules: serve at URL, or dial one that is served elsewhere. Exits with 1 if it breaks one."""
    if not (url or dial):
        raise click.UsageError("a URL to serve at is needed, or --dial")

    async def run() -> bool:
        kept = True
        for name in rules or RULES:
            try:
                seen = await check_transport(url, dial=dial, rules=[name], many=many, layer=layer or as_it_is)
                click.echo(f"{name}: {seen[name]}")
            except TransportFault as exc:
                click.echo(click.style("BROKEN ", fg="red") + str(exc).partition("\n")[2])
                kept = False
        return kept

    try:
        kept = trio.run(run)
    except ConfigError as exc:
        raise click.ClickException(str(exc)) from None
    if not kept:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
