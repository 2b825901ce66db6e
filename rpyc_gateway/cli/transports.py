"""`rpyc-gw transports`: which URLs can be used here, and what is wrong with the plug-ins that cannot be."""

from __future__ import annotations

import json

import click

from rpyc_gateway.cli.options import log_to_stderr, verbosity

__all__ = ["transports"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects.")
@verbosity
@click.pass_context
def transports(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List the transports that are installed, and the packages that they come from.

    Exits with 1 if one of them cannot be used: it is listed with the reason. The others are not harmed by that.
    """
    from rpyc_gateway.transport import installed_transports

    log_to_stderr(ctx)
    found = installed_transports()
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found], indent=2))
    else:
        wide = max((len(one.scheme) for one in found), default=0)
        for one in found:
            package = f" [{one.package}]" if one.package else ""
            says = f"CANNOT BE USED: {one.problem}" if one.problem else one.what
            click.echo(f"{one.scheme + ':':{wide + 1}}  {says}{package}")
    if any(one.problem for one in found):
        ctx.exit(1)
