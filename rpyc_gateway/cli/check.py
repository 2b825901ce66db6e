"""`rpyc-gw check`: is this configuration right, without running it?"""

from __future__ import annotations

import click

from rpyc_gateway.cli.options import config_path, log_to_stderr, verbosity

__all__ = ["check"]


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=config_path)
@verbosity
@click.pass_context
def check(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Check configurations without running them.

    Prints every mistake as file:line:column: key: what is wrong, and exits with 78 if there is one. What is right but may not be
    meant is printed as a note.
    """
    from rpyc_gateway.config import Config
    from rpyc_gateway.errors import ConfigError

    problems: list[str] = []
    for file in files:
        # What a configuration warns of when it is used is a note here.
        log_to_stderr(ctx, form=f"{file.replace('%', '%%')}: note: %(message)s")
        try:
            config = Config.load(file)
        except ConfigError as exc:
            problems += exc.problems
        else:
            config.warn_if_idle()
            click.echo(f"{file}: ok, node {config.node.name}")
    if problems:
        raise ConfigError(problems)
