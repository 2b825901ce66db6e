"""What to do about what programs say when they do not get us to the other side. As those say it that people really use."""

from __future__ import annotations

import re

__all__ = ["NOBODY_ANSWERS", "advise", "asks", "echoes"]

NOBODY_ANSWERS = (
    "nobody can answer here: use a key, an agent, or SSH_ASKPASS or SUDO_ASKPASS;"
    " `stdio:?terminal=1 COMMAND` lets it ask on the terminal that this runs in the foreground of"
)
NO_TERMINAL = "there is a terminal in between, and it changes what passes through it: drop -t and -tt (`ssh -T`, `docker exec -i`, `kubectl exec -i`)"

# The first that fits is given. No gap is without a bound: a far side that says the beginning of one thousands of times would hold up the whole node.
_ADVICE = (
    (r"this is a terminal, and|not a (TTY|terminal)|TIOC[GS]WINSZ", NO_TERMINAL),
    (
        r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
        "connect by hand once, and look at the key of that host before you accept it; ssh keeps it in known_hosts",
    ),
    (
        r"Permission denied \(|Permission denied, please try again|Too many authentication failures"
        r"|sudo: .{0,80}(password is required|terminal is required|no tty present|no askpass program)|incorrect password attempt",
        NOBODY_ANSWERS,
    ),
    (
        r"is not in the sudoers file|not allowed to (run|execute)",
        "sudoers must allow exactly this command to this user",
    ),
    (
        r"syntax error.{0,400}import os,sys;sys\.ps1=|import os,sys;sys\.ps1=.{0,400}not found",
        "that is no Python: `stdio:?python=0 COMMAND` leaves a command as it is",
    ),
    (
        r"python[\d.]*\W{0,3}: ((command )?not found|No such file|executable file not found)",
        "Python 3.8 or later is needed there: install it, or give its whole path",
    ),
)
_BY_STATUS = {
    126: "that file is there, but cannot be run there: is it executable, and for that machine?",
    127: "no such command there: is it installed, and on the PATH of a shell that nobody logged in to? Its whole path works",
}
_PROMPT = re.compile(
    r"^\[sudo\]|pass(wor[dt]|phrase|code)|\bPIN\b|\bOTP\b|verification code|one-time|login|user ?name|yes/no",
    re.IGNORECASE,
)


_ECHO = re.compile(r"\^A\^@.{0,8}RPGW|import os,sys;sys\.ps1=", re.DOTALL)  # HELLO; what a bare Python is sent
_WITH_A_TERMINAL = re.compile(r"(\S*/)?(ssh|docker|podman|nerdctl|kubectl|oc)\s(.*\s)?(-i?t+i?|--tty)\s")


def advise(said: str, status: int | None, command: str) -> str:
    """What to do about a program that said so, and ended with this status (None: it runs on); "" if nobody knows."""
    found = next((what for pattern, what in _ADVICE if re.search(pattern, said, re.IGNORECASE | re.DOTALL)), "")
    if not found and (echoes(said) or _WITH_A_TERMINAL.match(command)):
        return NO_TERMINAL  # it may say nothing at all: a byte of ours can be Ctrl-S
    return found or _BY_STATUS.get(status or 0, "")


def echoes(said: str) -> bool:
    """Whether the beginning of what was sent has come back, as a terminal shows control characters."""
    return _ECHO.search(said) is not None


def asks(line: str) -> bool:
    """Whether a line that has not ended waits for an answer of somebody at a keyboard."""
    return line.rstrip().endswith((":", "?", ">")) and _PROMPT.search(line) is not None
