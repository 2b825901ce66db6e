"""`rpyc-gw nodes`: which nodes can be reached from a node, and how."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

import click

from rpyc_gateway.cli.options import log_to_stderr, url_options, verbosity
from rpyc_gateway.cli.run import put_own_scripts_first
from rpyc_gateway.cli.table import table

__all__ = ["nodes"]


class Row(NamedTuple):
    """What the service "node" tells of one node; the JSON has the same names."""

    name: str
    path: tuple[str, ...]
    cost: int
    link: str
    state: str
    about: str = ""  # which earlier versions do not tell


@click.command()
@url_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects.")
@verbosity
@click.pass_context
def nodes(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List the nodes that the node at --url knows, and what it tries to reach in vain.

    Who holds a board, and whether it is one that can do less, says the gateway that has the board: name that with --via.
    """
    from rpyc_gateway.sync import connect

    log_to_stderr(ctx)
    put_own_scripts_first()
    with connect(list(url), via=via, service="node") as conn:
        # What a later version tells beyond this is not for us.
        rows = [Row(*told[: len(Row._fields)]) for told in conn.root.nodes()]
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows], indent=2))
    else:
        click.echo(_table(rows))


def _table(rows: Iterable[Row]) -> str:
    cells = [("NODE", "HOPS", "PATH", "LINK", "STATE")]
    for row in rows:
        state = f"{row.state}; {row.about}" if row.about else row.state
        cells.append((row.name or "?", str(row.cost), " > ".join(row.path), row.link or "-", state))
    return table(cells)
