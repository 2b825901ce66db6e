"""`python -m rpyc_gateway.testing`: check a transport, be the other end of one that is checked from elsewhere, or be a bad wire."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from importlib import import_module

import click
import trio

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.testing.partner import Failed, Layer, Partner, as_it_is
from rpyc_gateway.testing.transports import RULES, TransportFault, check_transport
from rpyc_gateway.testing.wire import BadWire
from rpyc_gateway.transport import check_url, find_transport, without_secrets

__all__ = ["main"]


INTERRUPTED = 130  # as a shell has it


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


class UrlType(click.ParamType[str]):
    """A URL that its transport has nothing against."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            problem = check_url(value)
        except ConfigError as exc:
            self.fail(str(exc), param, ctx)
        if problem is not None:
            self.fail(f"{without_secrets(value)}: {problem}", param, ctx)
        return value


layer_option = click.option("--layer", type=LayerType(), help="What makes an unreliable pipe a reliable one.")


@click.group()
def main() -> None:
    """Check transports, and be cruel to them."""
    logging.getLogger("rpyc_gateway.transport").addFilter(_was_not_asked_for)


def _was_not_asked_for(record: logging.LogRecord) -> bool:
    """Whether it is news: a handler that fails because the check has told it to is none."""
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, BaseExceptionGroup) and error.subgroup(Failed))


@main.command()
@click.argument("url", type=UrlType())
@click.option(
    "--alone", is_flag=True, help="This process may be killed to see what becomes of the pipe: it has no other."
)
@layer_option
def serve(url: str, alone: bool, layer: Layer | None) -> None:  # noqa: FBT001  so click calls it
    """Be the other end for a check that runs elsewhere: serve at URL until interrupted."""
    partner = Partner(layer or as_it_is, alone=alone)

    async def run() -> bool:
        async with trio.open_nursery() as nursery:
            urls = await nursery.start(find_transport(url).serve, url, partner)
            click.echo(f"serving at {', '.join(urls)}", err=True)
        return True  # standard streams are served once

    _run(run)


@main.command()
@click.argument("url", type=UrlType(), required=False)
@click.option("--dial", type=UrlType(), metavar="URL", help="What to dial; without it, what is served.")
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

    if not _run(run):
        raise SystemExit(1)


@main.command()
@click.argument("target", type=UrlType())
@click.option(
    "--listen",
    type=UrlType(),
    metavar="URL",
    default="tcp://127.0.0.1:0",
    show_default=True,
    help="Where to be dialled.",
)
@click.option("--delay", default=0.0, help="Seconds that each byte comes later, each way.")
@click.option("--jitter", default=0.0, help="And up to so many seconds more.")
@click.option("--rate", default=math.inf, help="Bytes per second, each way, of each connection.")
@click.option("--lose", default=0.0, help="The share of bytes that go missing, 0 to 1.")
@click.option("--corrupt", default=0.0, help="The share of bytes that arrive as others, 0 to 1.")
@click.option("--cut-often", default=math.inf, help="Seconds between two breaks of a connection, on average.")
@click.option("--seed", default=0, help="What chance follows from.")
def wire(target: str, listen: str, seed: int, **conditions: float) -> None:
    """Be a bad wire in front of the listener at TARGET, until interrupted."""

    async def run() -> bool:
        async with BadWire(target, listen, seed=seed) as wire:
            wire.delay(conditions["delay"], jitter=conditions["jitter"])
            wire.rate(conditions["rate"])
            wire.lose(conditions["lose"])
            wire.corrupt(conditions["corrupt"])
            wire.cut_often(conditions["cut_often"])
            click.echo(f"dial {wire.url} for {without_secrets(target)}", err=True)
            await trio.Event().wait()
        return True

    _run(run)


def _run(story: Callable[[], Awaitable[bool]]) -> bool:
    """Run it; what the user can do something about is said without a traceback."""
    kept = False
    try:
        kept = trio.run(story)
    except* ConfigError as mistakes:
        raise click.ClickException(str(_first(mistakes))) from None
    except* ValueError as mistakes:
        raise click.UsageError(str(_first(mistakes))) from None
    except* KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    return kept


def _first(exc: BaseException) -> BaseException:
    return _first(exc.exceptions[0]) if isinstance(exc, BaseExceptionGroup) else exc


if __name__ == "__main__":
    main()
