"""Runs a program on a board."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpyc_gateway.cli.onboard.interpreters import CHUNK, BoardFailed, Interpreter, defined

__all__ = ["SHOW", "own_part", "parts_of", "run"]

# All of this runs there: for any MicroPython and CircuitPython, and it leaves nothing in the namespace of others.
# What is not needed is left out: the smallest boards have no room for it.
RUN = """
def _gateway_run(parts, name, write):
    show = print
    space = {"__name__": "__main__"}
    #show
    code = "".join(parts)
    parts.clear()
    try:
        code = compile(code, name, "#mode")
    except NameError:
        pass
    try:
        #run
    except SystemExit as e:
        code = e.args[0] if e.args else 0
        return code if code is None or isinstance(code, int) else str(code)
"""
SHOW = """
    def show(*args, sep=" ", end="\\n", file=None):
        if file:
            return print(*args, sep=sep, end=end, file=file)
        write(sep.join([str(x) for x in args]) + end)
    space["print"] = show
"""
MODES = {"eval": "show(eval(code, space))", "exec": "exec(code, space)"}
RUNNER = "_gateway_run"


async def run(board: Interpreter, source: str, filename: str, mode: str, write: Callable[[str], object]) -> int | str:
    """Run a program in a namespace of its own; with `mode` "eval" print the value of an expression. Returns what it gave to sys.exit().

    `write` gets what it prints, where the board does not show that by itself. Raises BoardFailed, with its traceback.
    """
    parts = await parts_of(board, source)
    program = (
        RUN.replace("#show", "" if board.shows else SHOW.strip()).replace("#mode", mode).replace("#run", MODES[mode])
    )
    function = await board.evaluate(defined(program, RUNNER))
    try:
        return await board.call(function, parts, filename, None if board.shows else write) or 0
    except BoardFailed as exc:
        exc.traceback = own_part(exc.traceback, RUNNER)
        raise


async def parts_of(board: Interpreter, source: str) -> Any:
    """A list there with the parts of a source that is too long for one message."""
    parts = await board.evaluate("[]")
    add = await board.evaluate("lambda a, b: a.append(b)")
    for at in range(0, len(source), CHUNK):
        await board.call(add, parts, source[at : at + CHUNK])
    return parts


def own_part(traceback: str, runner: str) -> str:
    """A traceback without the frames that brought the program there, to the function `runner`."""
    lines = traceback.rstrip().splitlines()
    ours = [at for at, line in enumerate(lines) if line.endswith(f"in {runner}")]
    return "\n".join([lines[0], *lines[ours[-1] + 1 :]] if ours else lines)
