"""What ssh, sudo, docker and kubectl say when they fail, as they say it, and what is said to that."""

from __future__ import annotations

import pytest

from rpyc_transports.advice import _ADVICE, NO_TERMINAL, NOBODY_ANSWERS, advise, asks


@pytest.mark.parametrize(
    ("said", "status", "advice"),
    [
        ("ops@bastion: Permission denied (publickey,password).", 255, NOBODY_ANSWERS),
        ("sudo: a terminal is required to read the password; either use the -S option to read ...", 1, NOBODY_ANSWERS),
        ("sudo: a password is required", 1, NOBODY_ANSWERS),
        ("sudo: 3 incorrect password attempts", 1, NOBODY_ANSWERS),
        ("Host key verification failed.", 255, "connect by hand once"),
        ("ops is not in the sudoers file.", 1, "sudoers must allow"),
        ("the input device is not a TTY", 1, NO_TERMINAL),
        ("Unable to use a TTY - input is not a terminal or the right kind of file", 1, NO_TERMINAL),
        ("^A^@^A^WRPGW\N{REPLACEMENT CHARACTER}version", 130, NO_TERMINAL),
        ("bash: line 1: rpyc-gw: command not found", 127, "no such command there"),
        ("bash: line 1: python3: command not found", 127, "Python 3.8 or later is needed there: install it"),
        ("sudo: python3.11: command not found", 1, "Python 3.8 or later is needed there: install it"),
        ("env: \N{LEFT SINGLE QUOTATION MARK}python3\N{RIGHT SINGLE QUOTATION MARK}: No such file", 127, "Python 3.8"),
        ('exec: "python3": executable file not found in $PATH', 127, "Python 3.8 or later is needed there: install it"),
        (
            "bash: line 1: syntax error near `('\nbash: line 1: `import os,sys;sys.ps1=sys.ps2='';_=(",
            2,
            "that is no Python",
        ),
        ("", 126, "that file is there, but cannot be run there"),
        ("Error response from daemon: No such container: lab", 1, ""),
        ("ssh: connect to host bastion port 22: Connection refused", 255, ""),
        ("", None, ""),
    ],
)
def test_what_is_advised(said: str, status: int | None, advice: str) -> None:
    assert advise(said, status, "ssh far rpyc-gw stdio").startswith(advice)
    assert bool(advise(said, status, "ssh far rpyc-gw stdio")) == bool(advice)


@pytest.mark.parametrize(
    ("command", "terminal"),
    {
        "ssh -tt far rpyc-gw stdio": True,
        "/usr/bin/ssh -p 22 -t far rpyc-gw stdio": True,
        "docker exec -it lab rpyc-gw stdio": True,
        "kubectl exec --tty -i lab -- rpyc-gw stdio": True,
        "ssh -T far rpyc-gw stdio": False,
        "docker exec -i lab rpyc-gw stdio": False,
        "minicom -t vt100 lab": False,
    }.items(),
)
def test_a_terminal_that_swallows_everything_is_seen_in_the_command(command: str, terminal: bool) -> None:  # noqa: FBT001
    assert (advise("", None, command) == NO_TERMINAL) is terminal


@pytest.mark.parametrize(
    ("line", "question"),
    {
        "ops@bastion's password:": True,
        "[sudo] password for ops: ": True,
        "[sudo] Mot de passe de ops : ": True,
        "Enter passphrase for key '/home/ops/.ssh/id_ed25519':": True,
        "Are you sure you want to continue connecting (yes/no/[fingerprint])?": True,
        "Verification code:": True,
        "Enter PIN for ED25519-SK key /home/ops/.ssh/id:": True,
        "bastion login:": True,
        "Pinging 10.0.0.1:": False,
        "Warning: your password will expire in 3 days": False,
        "Connecting to 10.0.0.7:": False,
        "": False,
    }.items(),
)
def test_what_is_a_question_for_somebody_at_a_keyboard(line: str, question: bool) -> None:  # noqa: FBT001
    assert asks(line) is question


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in _ADVICE])
def test_no_gap_in_what_is_sought_is_without_a_bound(pattern: str) -> None:
    """20 KB of `sudo: sudo: ...`, which any far side can say, took a second of the whole node with `sudo: .*`."""
    assert ".*" not in pattern
    assert ".+" not in pattern
