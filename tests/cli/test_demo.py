"""`rpyc-gw demo`: it walks through a chain, and leaves no process behind however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from rpyc_gateway.cli import main
from rpyc_gateway.config import Config
from rpyc_gateway.errors import DialFailed
from tests.running import processes_with

# The name in the package is the command's.
demo_module = import_module("rpyc_gateway.cli.demo")

ROOT = Path(__file__).parents[2]

Start = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def mark() -> str:
    return f"GW_TEST_{uuid4().hex}"


@pytest.fixture
def start(mark: str, tmp_path: Path) -> Iterator[Start]:
    """Start the demo as the README does: by the path of its script, with nothing activated, in any directory."""
    script = Path(sysconfig.get_path("scripts")) / "rpyc-gw"
    environment = {"PATH": os.defpath, mark: "1"} | {
        name: value for name, value in os.environ.items() if name.startswith("COV")
    }
    started: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [script, "demo"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with process:
            process.kill()


def test_the_demo_runs_the_chain_that_we_ship() -> None:
    shipped = Config.load(ROOT / "configs/chain.toml")
    assert Config.parse(demo_module.CHAIN.format(url='"unix:///tmp/rpyc-gw-hq.sock"')) == shipped


def test_it_walks_through_and_leaves_no_process_behind(start: Start, mark: str) -> None:
    process = start()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    for said in (
        "lab is process",
        "'lucy'",
        "FileNotFoundError: [Errno 2]",
        "42; lab called our function with 40 and 41",
        "'a/b'",
    ):
        assert said in output
    assert output.count(" ms)\n") == 6
    assert processes_with(mark) == []


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_midway_it_leaves_no_process_behind(
    start: Start, mark: str, number: signal.Signals, code: int, steps: int
) -> None:
    process = start()
    assert process.stdout is not None
    for _ in range(steps):
        next(line for line in process.stdout if line.startswith(">>>"))
    process.send_signal(number)
    process.wait(timeout=30)
    assert process.returncode == code
    assert processes_with(mark) == []


@pytest.fixture
def _as_before(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a demo in this process: it changes PATH."""
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setenv(mark, "1")


@pytest.mark.usefixtures("_as_before")
def test_a_step_that_fails_is_told_and_leaves_no_process_behind(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_conn: object) -> str:
        raise DialFailed("no way")

    monkeypatch.setattr(demo_module, "_STEPS", (("conn.fail()", "fail", fail),))
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 69
    assert result.stderr.endswith("rpyc-gw: no way\n")
    assert "hq: " in result.stderr
    assert processes_with(mark) == []


@pytest.mark.usefixtures("_as_before")
def test_a_chain_that_cannot_start_says_why_and_is_not_waited_for(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "CHAIN", "[[listen]]\nurl = {url}\n[nonsense]\n")
    monkeypatch.setattr(demo_module, "_READY_WITHIN", 60)
    began = time.monotonic()
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 69
    assert "hq: " in result.stderr
    assert "nonsense: unknown key" in result.stderr
    assert time.monotonic() - began < 30
    assert processes_with(mark) == []


def test_who_stops_reading_is_not_told_of_hq(start: Start, mark: str) -> None:
    process = start()
    assert process.stdout is not None
    assert process.stderr is not None
    next(line for line in process.stdout if "lab is process" in line)  # by now hq has something to say
    process.stdout.close()
    assert (process.wait(timeout=30), process.stderr.read()) == (1, "")
    assert processes_with(mark) == []


@pytest.mark.usefixtures("_as_before")
def test_a_directory_for_temporary_files_with_any_name_will_do(tmp_path: Path) -> None:
    directory = Path(tempfile.mkdtemp(prefix="a\"\\'b\x7f"))
    try:
        with demo_module.running_chain(directory) as hq, demo_module.connect_when_up(hq) as conn:
            assert conn.modules.os.getpid() != os.getpid()
    finally:
        shutil.rmtree(directory)


def test_a_directory_too_long_for_a_socket_is_told_with_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    result = CliRunner().invoke(main, ["demo"])
    assert (result.exit_code, result.stderr.count("\n")) == (78, 1)
    assert "TMPDIR" in result.stderr


def test_an_hq_that_does_not_end_is_killed_with_what_it_started() -> None:
    stubborn = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "_END_WITHIN", 0.1)
        with subprocess.Popen(
            [sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            demo_module._end(process)
    assert process.returncode == -signal.SIGKILL
