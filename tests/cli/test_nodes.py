"""`rpyc-gw nodes`: a table for people, JSON for programs."""

from __future__ import annotations

import json

from click.testing import CliRunner

from rpyc_gateway.cli import main
from rpyc_gateway.cli.nodes import Row, _table
from tests.running import chain


def test_every_node_of_a_chain_is_listed_with_the_way_to_it() -> None:
    with chain() as hq:
        table = CliRunner().invoke(main, ["nodes", "--url", hq.url])
        told = CliRunner().invoke(main, ["nodes", "--url", hq.url, "--json"])
    assert (table.exit_code, table.stderr) == (0, "")
    assert [line.split()[:2] for line in table.stdout.splitlines()] == [
        ["NODE", "HOPS"],
        ["hq", "0"],
        ["lab", "2"],
        ["relay", "1"],
    ]
    assert {row["name"]: (row["path"], row["cost"], row["state"]) for row in json.loads(told.stdout)} == {
        "hq": (["hq"], 0, "self"),
        "relay": (["hq", "relay"], 1, "up"),
        "lab": (["hq", "relay", "lab"], 2, "up"),
    }


def test_what_is_not_reached_has_a_line_too() -> None:
    lines = _table(
        [Row("hq", ("hq",), 0, "", "self"), Row("", ("hq",), 0, "tcp://a:1", "waiting: refused")]
    ).splitlines()
    assert lines[1:] == ["hq    0     hq    -          self", "?     0     hq    tcp://a:1  waiting: refused"]
