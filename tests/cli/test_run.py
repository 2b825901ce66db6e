"""`rpyc-gw run`: it runs until it is told to end, and finds its own program for its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

import rpyc_gateway as gw
from rpyc_gateway.cli import main
from rpyc_gateway.cli.run import put_own_scripts_first

STUBBORN = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(2, b'started\\n'); os.read(0, 1); signal.alarm(30); signal.pause()"


@contextmanager
def gateway(config: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A gateway that has bound its listener."""
    file = tmp_path / "c.toml"
    file.write_text(config)
    command = [sys.executable, "-m", "rpyc_gateway", "--config", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(process, "listening on")
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], said: str) -> None:
    assert process.stderr
    seen = []
    for line in process.stderr:
        seen.append(line)
        if said in line:
            return
    raise AssertionError(f"it ended without saying {said!r}: {seen}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_ends_it_in_order(number: signal.Signals, tmp_path: Path) -> None:
    socket = tmp_path / "s"
    with gateway(f"[[listen]]\nurl = 'unix://{socket}'", tmp_path) as process:
        assert socket.is_socket()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert not socket.exists()


def test_what_is_loaded_when_it_begins_is_no_matter_of_full_collections(tmp_path: Path) -> None:
    url = f"unix://{tmp_path / 's'}"
    config = f"[[listen]]\nurl = '{url}'\n[[serve]]\nservice = 'classic'\nallow = ['*']"
    with gateway(config, tmp_path), gw.connect(url) as conn:
        frozen, objects = conn.eval("__import__('gc').get_freeze_count(), len(__import__('gc').get_objects())")
        assert frozen > 10 * objects


def test_under_nohup_it_stays_when_the_terminal_goes(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does; children inherit it
    try:
        with gateway(f"[[listen]]\nurl = 'unix://{tmp_path}/s'", tmp_path) as process:
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert process.stderr
            assert "SIGHUP" not in process.stderr.read()
            assert process.wait(10) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_node_without_links_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("rpyc_gateway.cli.run"), "run_node", lambda *_: None)
    file = tmp_path / "c.toml"
    file.write_text("[node]\nname = 'hq'")
    result = CliRunner().invoke(main, ["--config", str(file)])
    assert "listen, dial: there is neither: hq" in result.stderr


def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    # Its child does not end when it is asked to, which takes seconds.
    config = f"""
        [[dial]]
        url = '''stdio:{sys.executable} -c "{STUBBORN}"'''
        [[listen]]
        url = 'unix://{tmp_path}/s'
    """
    with gateway(config, tmp_path) as process:
        until(process, "started")
        process.send_signal(signal.SIGTERM)
        until(process, "once more ends at once")
        process.send_signal(signal.SIGTERM)
        assert process.wait(1) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[[listen]]\nurl = 'tcp://0.0.0.0:0'", "c.toml:2:1: listen[0].url: other machines can reach this"),
        ("[[listen]]\nurl = 'unix:///nowhere/s'", "unix:///nowhere/s: "),
    ],
)
def test_a_listener_that_cannot_be_is_a_mistake_of_the_configuration(config: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(config)
    command = [sys.executable, "-m", "rpyc_gateway", "run", "--config", "c.toml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (result.returncode, result.stdout) == (78, "")
    assert result.stderr.splitlines()[-1].startswith(told)
    assert "Traceback" not in result.stderr


def test_children_find_this_installation_first(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = sysconfig.get_path("scripts")
    monkeypatch.setenv("PATH", "/bin")
    put_own_scripts_first()
    put_own_scripts_first()
    assert os.environ["PATH"].split(os.pathsep) == [scripts, "/bin"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_gives_its_main_thread_to_a_service_that_wants_it(number: signal.Signals, tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/s"
    served = "[[serve]]\nservice = 'classic'\nallow = ['*']\nruns = 'main'"
    with gateway(f"[[listen]]\nurl = '{url}'\n{served}", tmp_path) as process:
        with gw.connect(url) as conn:
            assert conn.modules.threading.current_thread().name == "MainThread"
        process.send_signal(number)
        assert process.wait(10) == 0
        assert not (tmp_path / "s").exists()
