"""`rpyc-gw device install` and `uninstall`: the agent on the flash of a board."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rpyc_gateway.cli.at_board import board_argument, work_on
from rpyc_gateway.cli.options import harmless
from rpyc_gateway.cli.output import Output

if TYPE_CHECKING:
    from rpyc_gateway.cli.onboard.interpreters import Interpreter

__all__ = ["install", "uninstall"]

_root = click.option(
    "--root",
    metavar="DIRECTORY",
    default="/",
    show_default=True,
    help="The directory of the board that has lib/ and main.py.",
)


@click.command()
@board_argument
@_root
@click.option("--main", "with_main", is_flag=True, help="Write a main.py that starts it, if there is none.")
@click.option("-f", "--force", is_flag=True, help="With --main: in the place of another main.py.")
def install(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    board: str,
    root: str,
    with_main: bool,  # noqa: FBT001 - click's way
    force: bool,  # noqa: FBT001
) -> None:
    """Write the agent to the flash of the board, as lib/gwagent.py. It is not needed: without it the agent is uploaded each time.

    A board that starts it (two lines of main.py, which are printed) is connected without an upload. It then waits for a front until Ctrl-C
    is pressed three times. Another version of this program uploads its own agent, and says so: install again.
    """
    from rpyc_gateway.cli.onboard import installs
    from rpyc_gateway.cli.onboard.interpreters import BoardFailed
    from rpyc_gateway.device.flash import BEGIN

    if force and not with_main:
        raise click.UsageError("--force is for --main")

    async def work(there: Interpreter, output: Output) -> None:
        to = await installs.places(there, root)
        main = await installs.has_main(there, to)
        started = main is not None and BEGIN.encode() in main.replace(b"\r\n", b"\n")
        if with_main and main is not None and not started and not force:
            raise BoardFailed(
                there.name, "", f"{to.main}: is there, and does something else; nothing was written (--force does)"
            )
        with output.progress("gwagent.py") as progress:
            await installs.install(there, to, progress)
        output.print(f"{harmless(to.agent)} is written\n")
        if not to.importable:
            output.print(
                f"the board does not look for modules there: its sys.path has no {harmless(to.agent.rpartition('/')[0])}\n"
            )
        if with_main and not started:
            await installs.write_main(there, to)
            output.print(f"{harmless(to.main)} is written: it starts with the next reset\n")
        elif not started:
            output.print(f"to start it add to {harmless(to.main)}:\n\n{BEGIN}")

    work_on(ctx, url, via, board, work)


@click.command()
@board_argument
@_root
def uninstall(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, root: str) -> None:
    """Remove what `install` wrote; a main.py only if it does nothing but start the agent."""
    from rpyc_gateway.cli.onboard import installs

    async def work(there: Interpreter, output: Output) -> None:
        at = await installs.places(there, root)
        removed = await installs.uninstall(there, at)
        for path in removed:
            output.print(f"{harmless(path)} is removed\n")
        main = await installs.has_main(there, at)
        if main is not None and b"gwagent" in main:
            output.print(f"{harmless(at.main)} still speaks of gwagent, and does more: that is yours to change\n")

    work_on(ctx, url, via, board, work)
