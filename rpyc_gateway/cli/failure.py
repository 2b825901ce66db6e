"""How a command fails: a clear line or two on stderr, an exit code that scripts can rely on, and the traceback only with -v."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click

from rpyc_gateway.cli.options import chattiness, harmless
from rpyc_gateway.errors import ConfigError, GatewayError, LinkLost, ProtocolError, Refused, Unreachable

__all__ = ["exit_code", "failing_clearly"]

# The numbers are those of sysexits.h, which systemd and mail systems know by name.
_EXIT_CODES: tuple[tuple[type[GatewayError], int], ...] = (
    (ConfigError, 78),
    (ProtocolError, 76),
    (Refused, 77),
    (Unreachable, 69),
    (LinkLost, 69),
)


def exit_code(error: BaseException) -> int:
    """What the process exits with for this error."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


@contextmanager
def failing_clearly(ctx: click.Context) -> Iterator[None]:
    """Tell whatever a command raises, with the traceback if its user is interested, and exit; click's other exceptions pass."""
    try:
        yield
    except click.UsageError as exc:
        said = io.StringIO()
        exc.show(said)
        # In one piece: what inetd has started says it to a caller, who quotes the first that comes.
        click.echo(said.getvalue(), err=True, nl=False)
        ctx.exit(exc.exit_code)
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except BaseException as exc:
        error = _first(exc)
        if isinstance(error, KeyboardInterrupt):
            ctx.exit(130)
        if not isinstance(error, Exception):
            raise
        if chattiness(ctx) > 0:
            click.echo(harmless("".join(traceback.format_exception(exc))), err=True, nl=False)
        # Each line of a ConfigError begins with its place, where editors look for it.
        prefix = "" if isinstance(error, ConfigError) else "rpyc-gw: "
        click.echo(prefix + harmless(_sentence(error)), err=True)
        _drop_unwritable_output()
        ctx.exit(exit_code(error))


def _drop_unwritable_output() -> None:
    """What standard output did not take would fail once more when the interpreter ends, with an exit code of its own."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _first(error: BaseException) -> BaseException:
    """The one error of a group that says most: an interrupt, else one of ours, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_first(inner) for inner in error.exceptions]
    return min(leaves, key=lambda leaf: (not isinstance(leaf, KeyboardInterrupt), not isinstance(leaf, GatewayError)))


def _sentence(error: BaseException) -> str:
    if isinstance(error, GatewayError | OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
