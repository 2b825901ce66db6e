"""Whether a command ends in a bare Python, and what it is started with so that it waits for what it is sent."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

__all__ = ["PROMPT", "WAIT", "waiting"]

WAIT = ("-i", "-c", "pass")
"""Without `-i` Python reads a program to its end before it runs it; with `-c` it prints no banner and runs no PYTHONSTARTUP. No shell on the way changes these words."""

PROMPT = ">>>"
"""What it says on standard error then, before its first line."""

_PYTHON = re.compile(r"(?:.*/)?python(?:\d(?:\.\d+t?)?)?", re.DOTALL)
_OPTION = re.compile(
    r"-[bBdEiIOPqRsSuvx]+|-[bBdEiIOPqRsSuvx]*[WX].+|2>.+"
)  # those that leave it without a program, and what a shell takes for itself
_BEGUN = re.compile(r"-[bBdEiIOPqRsSuvx]*[WX]")  # the next word belongs to it
_OF_A_SHELL = re.compile(r"-[a-z]*c|--command")  # `su ops -c python3`: the next word is a command


def waiting(argv: Sequence[str]) -> list[str] | None:
    """This command with WAIT for the Python that it ends in, if it does: its last words are an interpreter and options, no program.

    The last word may be a command itself: `ssh host 'sudo -n python3'`, `su ops -c python3`.
    """
    *before, last = argv
    if " " in last or (before and _OF_A_SHELL.fullmatch(before[-1])):
        try:
            command = shlex.split(last)
        except ValueError:
            return None
        if not _is_bare(command) or _OF_A_SHELL.fullmatch(command[-2:][0]):
            return None  # or it is one more command within, whose quotes nobody here can count
        return [*before, " ".join([last.rstrip().removesuffix(" -").rstrip(), *WAIT])]
    if not _is_bare(argv):
        return None
    return [*(before if last == "-" else argv), *WAIT]


def _is_bare(words: Sequence[str]) -> bool:
    at = max((at for at, word in enumerate(words) if _PYTHON.fullmatch(word)), default=None)
    if at is None:
        return False
    rest = list(words[at + 1 :])
    if rest[-1:] == ["-"]:
        rest.pop()
    while rest:
        word = rest.pop(0)
        if _BEGUN.fullmatch(word) and rest:
            rest.pop(0)
        elif not _OPTION.fullmatch(word):
            return False
    return True
