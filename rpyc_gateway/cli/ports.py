"""`rpyc-gw ports`: what is plugged in here, and what to write to dial it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from rpyc_gateway.cli.options import log_to_stderr, verbosity
from rpyc_gateway.cli.table import table

__all__ = ["ports"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects.")
@verbosity
@click.pass_context
def ports(ctx: click.Context, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List what could be dialled from this machine: the serial ports that are plugged in, and the URL of each.

    A URL names a device by its serial number or USB id if that tells it from the others: then it is found wherever it is plugged in.
    `rpyc-gw device` takes a port, a serial number or a URL of this list.
    """
    from rpyc_gateway.transport import find_places

    log_to_stderr(ctx)
    places = find_places()
    if as_json:
        told = [{"port": place.name, "url": place.url, **place.about} for place in places]
        click.echo(json.dumps(told, indent=2))
    elif places:
        rows = [
            (place.name, _usb(place.about), place.about.get("serial", "-"), place.about.get("product", "-"), place.url)
            for place in places
        ]
        click.echo(table([("PORT", "USB ID", "SERIAL NUMBER", "PRODUCT", "URL"), *rows]))
    else:
        click.echo("no serial port is plugged in (a USB cable may be for charging only)", err=True)


def _usb(about: Mapping[str, str]) -> str:
    return f"{about['vid']}:{about['pid']}" if "vid" in about else "-"
