"""The group of commands: help, versions, short forms, and starting without waiting for what is not needed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import rpyc_gateway
from rpyc_gateway.cli import main


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for command in ("run", "check", "nodes", "eval", "exec", "device", "stdio", "classic", "transports", "demo"):
        assert f"\n  {command} " in result.stdout


@pytest.mark.parametrize(
    "command", ["run", "check", "nodes", "eval", "exec", "device", "stdio", "classic", "transports", "demo"]
)
def test_each_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(main, [command, "-h"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: main {command}")


def test_the_version_names_what_is_inside() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("rpyc-gw 0.")
    assert "transports: memory, " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Usage:"),
        (["rum"], "No such command 'rum'"),
        (["-v"], "say which command"),
        (["run"], "--config FILE is required"),
        (["--config", "c.toml", "stdio"], "--config goes behind the command: rpyc-gw stdio --config c.toml"),
        (["--config", "c.toml", "nodes", "--url", "tcp://[::1]:1"], "`nodes` takes no --config"),
        (["--config", "c.toml", "check"], "rpyc-gw check c.toml"),
        (["eval", "lab", "1"], "Missing option '--url'"),
        (["nodes", "--url", "ws://u:secret@x/?ca=y"], "'--url': ws://***@x/?ca=y: there is no option 'ca'"),
        (["stdio", "--name", "h q"], "'h q' is not a node name"),
        (["stdio", "--serve", "clasic"], "did you mean `classic`?"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["nodes", "--help"]])
def test_a_full_disk_is_one_clear_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "rpyc_gateway", *arguments]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "rpyc-gw: [Errno 28] No space left on device\n")


def test_config_alone_means_run() -> None:
    short = CliRunner().invoke(main, ["--config", "/nowhere/c.toml"])
    long = CliRunner().invoke(main, ["run", "--config", "/nowhere/c.toml"])
    assert (short.exit_code, short.output) == (long.exit_code, long.output)
    assert (long.exit_code, long.stderr) == (78, "/nowhere/c.toml: cannot be read: No such file or directory\n")


def test_the_command_line_loads_only_what_the_command_needs() -> None:
    # Help and completion should not wait for trio. What the front door of the package loads is its own affair.
    code = (
        "import sys, types\n"
        f"package = types.ModuleType('rpyc_gateway'); package.__path__ = {rpyc_gateway.__path__!r}\n"
        "sys.modules['rpyc_gateway'] = package; sys.argv = ['rpyc-gw', '--help']\n"
        "try:\n    from rpyc_gateway.cli import main; main()\n"
        "finally:\n    print({'trio', 'msgspec'} & set(sys.modules), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "set()\n"


def test_the_module_is_the_script() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "rpyc_gateway", "--help"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("Usage: rpyc-gw ")
