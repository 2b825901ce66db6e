"""The options that several commands share, and what they do to the log."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import IO, Any, TypeVar

import click

__all__ = [
    "SourceFile",
    "chattiness",
    "config_option",
    "config_path",
    "dialable",
    "harmless",
    "log_to_file",
    "log_to_stderr",
    "node_argument",
    "some_url_options",
    "url_options",
    "verbosity",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_CHATTINESS = f"{__name__}.chattiness"
_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
_TIMED = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def chattiness(ctx: click.Context) -> int:
    """How many -v were given, less the -q, before and behind the command."""
    return int(ctx.meta.get(_CHATTINESS, 0))


def log_to_stderr(ctx: click.Context, *, usual: int = logging.WARNING, form: str = _TIMED) -> None:
    """Log from level `usual` upwards; each -v is one level more, each -q one less."""
    _log(ctx, logging.StreamHandler(), usual, _Harmless(form, "%H:%M:%S"))


def log_to_file(ctx: click.Context, file: str, *, usual: int = logging.WARNING) -> None:
    """The same at the end of a file, with dates. Raises OSError if it cannot be opened; if it cannot be written later, that is told once."""
    _log(ctx, _LogFile(file, encoding="utf-8", errors="backslashreplace"), usual, _Harmless(_TIMED))


class _LogFile(logging.FileHandler):
    complained = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.complained:
            self.complained = True
            click.echo(f"rpyc-gw: {self.baseFilename}: {error.strerror}: what is logged from here on is lost", err=True)


def _log(ctx: click.Context, handler: logging.Handler, usual: int, formatter: logging.Formatter) -> None:
    step = _LEVELS.index(usual) + chattiness(ctx)
    level = _LEVELS[max(0, min(step, len(_LEVELS) - 1))]
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def harmless(text: str) -> str:
    """Without what a terminal would obey: other machines have a say in errors and in the log. Lines stay lines."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


class _Harmless(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))


def _chattier(ctx: click.Context, _parameter: click.Parameter, count: int) -> None:
    ctx.meta[_CHATTINESS] = chattiness(ctx) + count


def _quieter(ctx: click.Context, _parameter: click.Parameter, count: int) -> None:
    ctx.meta[_CHATTINESS] = chattiness(ctx) - count


def verbosity(command: _Command) -> _Command:
    """-v and -q."""
    command = click.option("-q", "--quiet", count=True, expose_value=False, callback=_quieter, help="Log less.")(
        command
    )
    return click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_chattier,
        help="Log more, and show tracebacks. Twice: all.",
    )(command)


def _known_urls(_ctx: click.Context, _parameter: click.Parameter, urls: tuple[str, ...]) -> tuple[str, ...]:
    """Of several hops only the first is dialled here; what the others need is theirs."""
    if urls:
        dialable(urls[0])
    return urls


def dialable(url: str) -> str:
    """This URL. Wrong usage if it cannot be dialled."""
    from rpyc_gateway.errors import ConfigError
    from rpyc_gateway.transport import check_url, without_secrets

    try:
        problem = check_url(url)
    except ConfigError as exc:
        raise click.BadParameter(str(exc)) from exc
    if problem is not None:
        raise click.BadParameter(f"{without_secrets(url)}: {problem}")
    return url


def url_options(command: _Command) -> _Command:
    """--url and --via: the way to a node."""
    return _url_options(command, required=True)


def some_url_options(command: _Command) -> _Command:
    """The same for what can do without a node."""
    return _url_options(command, required=False)


def _url_options(command: _Command, *, required: bool) -> _Command:
    command = click.option("--via", metavar="NODE", multiple=True, help="A node to pass on the way; may be repeated.")(
        command
    )
    return click.option(
        "--url",
        required=required,
        multiple=True,
        callback=_known_urls,
        help="A node to begin at; repeated, each hop is dialled by the one before.",
    )(command)


class SourceFile(click.File):
    """A file of code as bytes, or '-'."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(
        self, value: str | os.PathLike[str] | IO[Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> IO[Any]:
        """Open it. Wrong usage if it cannot be read, or if '-' is standard input and that is closed."""
        if value == "-" and sys.stdin is None:
            self.fail("'-' is standard input, and that is closed", param, ctx)
        return super().convert(value, param, ctx)


node_argument = click.argument("node", required=False)
# Whether it can be read is for Config.load to find out and tell.
config_path = click.Path(readable=False)
config_option = click.option("--config", metavar="FILE", type=config_path, help="The node's configuration (TOML).")
