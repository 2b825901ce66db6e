"""`rpyc-gw device watch`: numbers of a board over time."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

import click

from rpyc_gateway.cli.at_board import board_argument, work_on
from rpyc_gateway.cli.output import ERASE, Output

if TYPE_CHECKING:
    from rpyc_gateway.cli.onboard.interpreters import Interpreter

__all__ = ["watch"]


@click.command()
@board_argument
@click.option("--every", metavar="SECONDS", type=click.FloatRange(min=0), default=1.0, show_default=True)
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="So many numbers, then end.")
@click.option("--before", metavar="CODE", default="", help="Statements to run first, for imports.")
@click.argument("expression", metavar="EXPR")
def watch(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    board: str,
    every: float,
    count: int | None,
    before: str,
    expression: str,
) -> None:
    """Read a number on the board again and again, until Ctrl-C.

    On a terminal it is drawn as a line that is written anew, with the latest, the least and the greatest; elsewhere each number is a line.

    rpyc-gw device watch /dev/ttyACM0 'adc.read_u16()' --before 'from machine import ADC; adc = ADC(26)'
    """

    async def work(there: Interpreter, output: Output) -> None:
        from rpyc_gateway.cli.onboard import watches

        drawn = sys.stdout.isatty()
        take = _drawing(output) if drawn else lambda number: output.print(f"{number}\n")
        try:
            await watches.watch(there, expression, before, take, every=every, times=inf if count is None else count)
        finally:
            if drawn:
                output.print("\n")

    work_on(ctx, url, via, board, work)


def _drawing(output: Output) -> Callable[[float], None]:
    """What draws a number behind those before."""
    from rpyc_gateway.cli.sparkline import BLOCKS, PLAIN, Sparkline

    try:
        BLOCKS.encode(sys.stdout.encoding)
        line = Sparkline(BLOCKS)
    except UnicodeEncodeError:
        line = Sparkline(PLAIN)

    def take(number: float) -> None:
        line.add(number)
        output.print(f"{ERASE}{line.line(shutil.get_terminal_size().columns - 1)}")

    return take
