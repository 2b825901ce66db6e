"""`rpyc-gw transports`: what is installed, and what is wrong with what is broken."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from click.testing import CliRunner

from rpyc_gateway import transport
from rpyc_gateway.cli import main


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Besides tcp, three plug-ins that cannot be used."""
    values = {
        "tcp": "rpyc_transports.tcp:TcpTransport",
        "carrier": "pigeon.post:Pigeon",
        "half": "collections:OrderedDict",
        "exits": "tests.cli.test_transports:Exits",
        "moody": "tests.cli.test_transports:Moody",
    }
    entries = EntryPoints(EntryPoint(name, value, transport.GROUP) for name, value in values.items())
    monkeypatch.setattr(transport, "entry_points", lambda: entries)
    monkeypatch.setattr(transport, "_found", {})


class Exits:
    def __init__(self) -> None:
        raise SystemExit("libpigeon is missing")


class Moody:
    connect = serve = is_private = is_guarded = None

    def __init__(self) -> None:
        self.connect = self.serve = self.is_private = self.is_guarded = print

    def check(self, _url: str) -> str | None:
        raise ZeroDivisionError("not today")


def test_those_that_we_ship_say_what_they_are_and_where_they_come_from() -> None:
    result = CliRunner().invoke(main, ["transports"])
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("tcp:")]
    assert "`tcp://host:port`: TCP over IPv4 and IPv6." in line
    assert "[rpyc-gateway " in line
    for line in result.stdout.splitlines():  # nothing is cut off in the middle of a sentence
        assert line.removesuffix("]").rpartition(" [")[0].endswith("."), line


@pytest.mark.usefixtures("broken")
def test_the_broken_ones_are_named_with_the_reason_and_do_not_stop_the_others() -> None:
    result = CliRunner().invoke(main, ["transports"])
    assert result.exit_code == 1
    carrier, exits, half, _moody, tcp = result.stdout.splitlines()
    assert carrier == (
        "carrier:  CANNOT BE USED: the transport pigeon.post:Pigeon cannot be loaded: ModuleNotFoundError: No module named 'pigeon'"
    )
    assert "Exits cannot be loaded: SystemExit: libpigeon is missing" in exits
    assert "is not a transport: it lacks check, connect, is_guarded, is_private, serve" in half
    assert tcp.startswith("tcp:      `tcp://host:port`")
    told = json.loads(CliRunner().invoke(main, ["transports", "--json"]).stdout)
    assert [one["scheme"] for one in told if one["problem"]] == ["carrier", "exits", "half"]


@pytest.mark.usefixtures("broken")
def test_a_configuration_that_uses_a_broken_one_is_told_with_the_rest_of_its_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    urls = ["carrier://here", "exits://here", "moody://here", "tcp://127.0.0.1:1", "tcp://127.0.0.1:70000"]
    file.write_text("".join(f"[[listen]]\nurl = '{url}'\n" for url in urls))
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 78
    lines = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{file}:{line}:1" for line in (2, 4, 6, 10)]
    assert "No module named 'pigeon'" in lines[0]
    assert "libpigeon is missing" in lines[1]
    assert "Moody failed to check it: ZeroDivisionError: not today" in lines[2]
    assert "port 70000 is not in 0..65535" in lines[3]


@pytest.mark.usefixtures("broken")
def test_a_url_on_the_command_line_is_told_too() -> None:
    for url, expected in (("carrier://here", "No module named 'pigeon'"), ("moody://here", "not today")):
        result = CliRunner().invoke(main, ["nodes", "--url", url])
        assert result.exit_code == 2
        assert expected in result.stderr
