"""The command line, `rpyc-gw`. Each command has its module; what they need is imported when they run, so that starting is quick.

stdout is data, stderr is logs. Exit codes: 0 ok, 1 it failed while running, 2 wrong usage, 69 cannot reach, 76 the peer
broke the protocol, 77 refused, 78 the configuration is wrong, 130 interrupted.
"""

from __future__ import annotations

import click

from rpyc_gateway.cli.check import check
from rpyc_gateway.cli.classic import classic
from rpyc_gateway.cli.cp import cp
from rpyc_gateway.cli.demo import demo
from rpyc_gateway.cli.device import device
from rpyc_gateway.cli.evaluate import evaluate, execute
from rpyc_gateway.cli.failure import failing_clearly
from rpyc_gateway.cli.nodes import nodes
from rpyc_gateway.cli.options import config_option, verbosity
from rpyc_gateway.cli.ports import ports
from rpyc_gateway.cli.run import run
from rpyc_gateway.cli.shell import shell
from rpyc_gateway.cli.stdio import stdio
from rpyc_gateway.cli.transports import transports

__all__ = ["main"]


class _Commands(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with failing_clearly(ctx):  # --help and --version print already here
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        with failing_clearly(ctx):
            return super().invoke(ctx)


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: object) -> None:
    if wanted:
        import platform
        from importlib.metadata import entry_points, version

        transports = ", ".join(sorted(entry_points(group="rpyc_gateway.transports").names))
        click.echo(f"rpyc-gw {version('rpyc-gateway')}")
        click.echo(f"Python {platform.python_version()}, trio {version('trio')}, transports: {transports}")
        ctx.exit()


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 69 cannot reach, 76 protocol, 77 refused, 78 configuration.",
)
@config_option
@click.option(
    "-V",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print versions and exit.",
)
@verbosity
@click.pass_context
def main(ctx: click.Context, config: str | None) -> None:
    """Use the objects of another Python process as if they were local, across any chain of gateways.

    `rpyc-gw --config FILE` is short for `rpyc-gw run --config FILE`.
    """
    if ctx.invoked_subcommand is None:
        if config is None:
            raise click.UsageError("say which command, or --config FILE to run a gateway")
        ctx.invoke(run, config=config)
    elif config is not None:
        raise click.UsageError(_misplaced_config(ctx.invoked_subcommand, config))


def _misplaced_config(name: str, file: str) -> str:
    if any(parameter.name == "config" for parameter in main.commands[name].params):
        return f"--config goes behind the command: rpyc-gw {name} --config {file}"
    return f"`{name}` takes no --config" + (f": rpyc-gw check {file}" if name == "check" else "")


for _command in (run, check, nodes, ports, transports, evaluate, execute, shell, cp, device, stdio, classic, demo):
    main.add_command(_command)
