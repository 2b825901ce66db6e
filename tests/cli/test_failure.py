"""How commands fail: one line, the right exit code, a traceback for who asks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click
import pytest
from click.testing import CliRunner, Result

from rpyc_gateway.cli.failure import failing_clearly
from rpyc_gateway.cli.options import log_to_stderr, verbosity
from rpyc_gateway.errors import (
    ConfigError,
    Denied,
    DialFailed,
    DuplicateNode,
    GatewayError,
    LinkLost,
    NoService,
    ProtocolError,
    Unreachable,
)


def fail(error: BaseException, *arguments: str) -> Result:
    """A command that raises this, run with these arguments."""

    @click.command()
    @verbosity
    @click.pass_context
    def command(ctx: click.Context) -> None:
        with failing_clearly(ctx):
            raise error

    return CliRunner().invoke(command, arguments)


@contextmanager
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["c.toml:1:1: node: no"]), 78),
        (Denied("no"), 77),
        (NoService("no"), 77),
        (DuplicateNode("no"), 77),
        (ProtocolError("no"), 76),
        (Unreachable("no"), 69),
        (DialFailed("no"), 69),
        (LinkLost("no"), 69),
        (GatewayError("no"), 1),
        (ConnectionRefusedError("no"), 1),
        (ZeroDivisionError("no"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_one_line(error: Exception, code: int) -> None:
    result = fail(error)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.endswith("no\n")
    assert result.stderr.count("\n") == 1


def test_a_mistake_in_a_configuration_begins_with_its_place() -> None:
    assert (
        fail(ConfigError(["c.toml:1:1: node: no", "c.toml:2:1: dial: no"])).stderr
        == "c.toml:1:1: node: no\nc.toml:2:1: dial: no\n"
    )
    assert fail(DialFailed("no")).stderr == "rpyc-gw: no\n"


def test_what_a_terminal_would_obey_is_shown_and_not_done() -> None:
    error = DialFailed("the proxy says \x1b[2J\x9b2J, and\nmore")
    assert fail(error).stderr == "rpyc-gw: the proxy says \\x1b[2J\\x9b2J, and\nmore\n"
    assert "\x1b" not in fail(error, "-v").stderr


def test_what_another_machine_has_put_into_the_log_is_shown_and_not_done() -> None:
    @click.command()
    @click.pass_context
    def command(ctx: click.Context) -> None:
        log_to_stderr(ctx)
        logging.getLogger("board").warning("it said %s", "\x1b[2J")

    with restored_logging():
        assert CliRunner().invoke(command).stderr.endswith("board: it said \\x1b[2J\n")


def test_the_traceback_is_for_who_asks() -> None:
    told = fail(DialFailed("no"), "-v").stderr
    assert told.startswith("Traceback (most recent call last):")
    assert told.endswith("\nrpyc-gw: no\n")
    assert "Traceback" not in fail(DialFailed("no"), "-v", "-q").stderr


def test_of_a_group_the_error_that_says_most_is_told() -> None:
    group = BaseExceptionGroup("", [ValueError("x"), ExceptionGroup("", [DialFailed("no")])])
    assert (fail(group).exit_code, fail(group).stderr) == (69, "rpyc-gw: no\n")
    assert fail(BaseExceptionGroup("", [DialFailed("no"), KeyboardInterrupt()])).exit_code == 130


def test_an_interrupt_is_no_error() -> None:
    result = fail(KeyboardInterrupt())
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("leave", [click.UsageError("u"), click.exceptions.Exit(5), SystemExit(5)])
def test_other_ways_to_leave_pass(leave: BaseException) -> None:
    assert fail(leave).exit_code == getattr(leave, "exit_code", 5)
