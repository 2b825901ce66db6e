"""`python -m rpyc_gateway.testing` for those who check a transport by hand, or want a bad wire in front of a program."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = [sys.executable, "-m", "rpyc_gateway.testing"]


def said(*arguments: str) -> tuple[int, str, str]:
    result = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return result.returncode, result.stdout, result.stderr


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """A program that runs until it is interrupted, and the first line that it says."""
    with subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            yield process.stderr.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""


def test_a_check_says_what_it_saw_rule_by_rule() -> None:
    status, out, _ = said("check", "memory://x", "--rule", "facts_are_facts", "--rule", "both_ways_at_once")
    assert status == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["facts_are_facts", "both_ways_at_once"]


def test_what_the_check_has_asked_for_is_no_traceback() -> None:
    status, out, err = said("check", "tcp://127.0.0.1:0", "--rule", "failing_handler_hurts_nobody")
    assert (status, err) == (0, "")
    assert out.startswith("failing_handler_hurts_nobody: its own pipe ends")


def test_two_processes_check_tcp_through_a_bad_wire() -> None:
    with running("serve", "tcp://127.0.0.1:0") as serving:
        assert serving.startswith("serving at tcp://127.0.0.1:")
        with running("wire", serving.rpartition(" ")[2], "--delay", "0.01", "--jitter", "0.01") as wire:
            _, dial, *_ = wire.split()
            assert said("check", "--dial", dial, "--rule", "pieces_of_all_sizes", "--many", "3")[0] == 0


def test_a_rule_that_is_broken_is_an_exit_code() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        dial = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
    status, out, _ = said("check", "--dial", dial, "--rule", "both_ways_at_once")
    assert status == 1
    assert out.startswith(f"BROKEN both_ways_at_once: dialling {dial}: DialFailed: {dial}: connection refused")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check"], "a URL to serve at is needed, or --dial"),
        (["check", "nothing:"], "no transport 'nothing' is installed"),
        (["wire", "tcp:x"], "Invalid value for 'TARGET': tcp:x: is not of the form"),
        (["check", "--dial", "ws://u:secret@h/?x=y"], "'--dial': ws://***@h/?x=y: there is no option 'x'"),
        (["serve", "tcp://192.0.2.1:0"], "this machine has no such address"),
        (["wire", "tcp://127.0.0.1:1", "--delay", "-1"], "a delay of -1.0 s is not possible"),
        (["check", "memory://x", "--layer", "nothing:here"], "No module named 'nothing'"),
    ],
)
def test_mistakes_are_said_without_a_traceback(arguments: list[str], expected: str) -> None:
    status, _, err = said(*arguments)
    assert status in (1, 2)
    assert expected in err
    assert "Traceback" not in err
