"""`rpyc-gw eval` and `exec`: code of this machine runs two nodes away, and what it says appears here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import chain


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with chain() as hq:
        yield hq.url


def rpyc_gw(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rpyc_gateway", *arguments]
    return subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )


def rpyc_gw_in_shell(arguments: str, redirection: str) -> subprocess.CompletedProcess[str]:
    line = f"{sys.executable} -m rpyc_gateway {arguments} {redirection}"
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)


def test_an_expression_is_evaluated_there(url: str) -> None:
    result = rpyc_gw("eval", "--url", url, "lab", "[__import__('os').getppid() for _ in 'ab']")
    assert (result.returncode, result.stderr) == (0, "")
    parent, again = eval(result.stdout)
    assert parent == again != os.getpid()


def test_a_string_is_printed_as_print_would(url: str) -> None:
    assert rpyc_gw("eval", "--url", url, "--via", "relay", "lab", "'é' + \"'\"").stdout == "é'\n"


def test_a_script_prints_here_and_its_errors_apart(url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(7)\n")
    result = rpyc_gw("exec", "--url", url, "lab", str(script))
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")


def test_without_a_node_it_is_the_one_that_the_url_leads_to(url: str, tmp_path: Path) -> None:
    where = ["--url", f"stdio:{sys.executable} -m rpyc_gateway stdio --serve classic"]
    assert rpyc_gw("eval", *where, "6 * 7").stdout == "42\n"
    script = tmp_path / "script.py"
    script.write_text("print('here')")
    assert rpyc_gw("exec", *where, str(script)).stdout == "here\n"
    assert rpyc_gw("exec", *where, "-", given="print('there')").stdout == "there\n"
    for command, missing in {"eval": "EXPR", "exec": "FILE"}.items():
        result = rpyc_gw(command, *where)
        assert (result.returncode, f"Missing argument '{missing}'" in result.stderr) == (2, True)
    result = rpyc_gw("exec", *where, f"{tmp_path}/missing.py")
    assert (result.returncode, "No such file" in result.stderr) == (2, True)


def test_a_script_comes_from_standard_input(url: str) -> None:
    result = rpyc_gw("exec", "--url", url, "lab", "-", given="print(__name__)")
    assert (result.returncode, result.stdout, result.stderr) == (0, "__main__\n", "")


def test_an_exception_there_is_told_with_its_traceback(url: str) -> None:
    result = rpyc_gw("exec", "--url", url, "lab", "-", given="def f():\n    raise ValueError('no')\nf()")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith('Traceback (most recent call last):\n  File "<stdin>", line 3, in <module>\n')
    assert result.stderr.endswith("ValueError: no\n")


def test_who_stops_reading_stops_the_script(url: str) -> None:
    command = [sys.executable, "-m", "rpyc_gateway", "exec", "--url", url, "lab", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write("while True:\n    print('more')\n")
        process.stdin.close()
        assert process.stdout.readline() == "more\n"
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""


def test_what_the_terminal_cannot_show_does_not_end_the_script(url: str) -> None:
    script = r"import sys; print('\u2713'); print('\u2713', file=sys.stderr); print('end')"
    result = rpyc_gw("exec", "--url", url, "lab", "-", given=script, PYTHONIOENCODING="ascii:strict")
    assert (result.returncode, result.stdout, result.stderr) == (0, "\\u2713\nend\n", "\\u2713\n")


@pytest.mark.parametrize(
    ("arguments", "redirection", "code", "told"),
    [
        ("eval --url {url} lab 1", ">&-", 1, "rpyc-gw: standard output is closed"),
        ("eval --url {url} lab 1", ">/dev/full", 1, "rpyc-gw: [Errno 28] No space left"),
        (
            "exec --url {url} lab -",
            "<&-",
            2,
            "Error: Invalid value for 'FILE': '-' is standard input, and that is closed",
        ),
    ],
)
def test_a_stream_that_is_not_there_is_one_clear_line(
    url: str, arguments: str, redirection: str, code: int, told: str
) -> None:
    result = rpyc_gw_in_shell(arguments.format(url=url), redirection)
    assert result.returncode == code
    assert result.stderr.splitlines()[-1].startswith(told)
    assert "Traceback" not in result.stderr


def test_without_standard_error_the_script_runs_all_the_same(url: str) -> None:
    code = "__import__('sys').stderr.write('no') and 1"
    result = rpyc_gw_in_shell(f'eval --url {url} lab "{code}"', "2>&-")
    assert (result.returncode, result.stdout) == (0, "1\n")


def test_a_url_finds_our_own_program_with_nothing_activated() -> None:
    url = "stdio:rpyc-gw stdio --name lab --serve classic"
    result = rpyc_gw("eval", "--url", url, "lab", "1 + 1", PATH=os.defpath)
    assert (result.returncode, result.stdout, result.stderr) == (0, "2\n", "")
    assert "lab" in rpyc_gw("nodes", "--url", url, PATH=os.defpath).stdout


def test_ctrl_c_leaves_at_once(url: str) -> None:
    endless = "[print('begun'), __import__('threading').Event().wait(60)]"
    command = [sys.executable, "-m", "rpyc_gateway", "eval", "--url", url, "lab", endless]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_script_ends_with_whoever_has_started_it(how: signal.Signals, url: str, tmp_path: Path) -> None:
    """Ctrl-C, or a link that is cut."""
    noted = tmp_path / "noted"
    os.mkfifo(noted)
    script = f"try:\n    print('begun')\n    while True: pass\nfinally:\n    open({str(noted)!r}, 'w').write('ended')\n"
    command = [sys.executable, "-m", "rpyc_gateway", "exec", "--url", url, "lab", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(script.encode())
        process.stdin.close()
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(how)
        assert noted.read_text() == "ended"
        assert process.wait(30) == (130 if how is signal.SIGINT else -how)


def test_a_script_asks_here_and_its_threads_print_here(url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, threading\nname = input('who? ')\nthread = threading.Thread(target=print, args=(name,))\n"
        "thread.start()\nthread.join()\nsys.stdout.buffer.write(sys.stdin.read().encode())\n"
    )
    for where in (["--url", url, "lab"], ["--url", f"stdio:?python=agent {sys.executable}"]):
        result = rpyc_gw("exec", *where, str(script), given="me\nrest é")
        assert (result.returncode, result.stdout, result.stderr) == (0, "who? me\nrest é", "")


@pytest.mark.parametrize(
    ("node", "code", "told"),
    [("nobody", 69, "'nobody'"), ("relay", 77, "relay does not let")],
)
def test_a_node_that_cannot_or_may_not_be_used_is_one_clear_line(url: str, node: str, code: int, told: str) -> None:
    result = rpyc_gw("eval", "--url", url, node, "1")
    assert (result.returncode, result.stdout) == (code, "")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_nobody_there_is_one_clear_line(tmp_path: Path) -> None:
    result = rpyc_gw("eval", "--url", f"unix://{tmp_path}/none.sock", "lab", "1")
    assert (result.returncode, result.stderr.count("\n")) == (69, 1)
    assert "no such socket" in result.stderr


def test_a_url_that_cannot_be_is_wrong_usage() -> None:
    for url, told in (("tcq://x:1", "no transport 'tcq' is installed"), ("tcp://x", "tcp://host:port")):
        result = rpyc_gw("eval", "--url", url, "lab", "1")
        assert result.returncode == 2
        assert told in result.stderr
