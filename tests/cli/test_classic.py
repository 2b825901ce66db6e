"""`rpyc-gw classic`: what the options of `rpyc_classic` come to, and what they do, with real processes and clients."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import rpyc_gateway as gw
from rpyc_gateway.cli import main, options
from tests.transports.authority import Authority

CLASSIC = (sys.executable, "-W", "error", "-m", "rpyc_gateway", "classic")
NULL = os.devnull
module = import_module("rpyc_gateway.cli.classic")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def _no_log_file_left() -> Iterator[None]:
    """Or the next test of the command line closes it, with what could not be written."""
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, options._LogFile)]:
        root.removeHandler(handler)
        with suppress(OSError):
            handler.close()


def configured(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> gw.Config:
    """What would be run."""
    run: list[gw.Config] = []
    monkeypatch.setattr(module, "run_for_ever", run.append)
    monkeypatch.setattr(module, "run_node", lambda config, *_, **__: run.append(config))
    result = CliRunner().invoke(main, ["classic", *arguments])
    assert result.exit_code == 0, result.output
    (config,) = run
    return config


@contextmanager
def started(*arguments: str, until: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server that has said where it listens: its URL."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*CLASSIC, *arguments], text=True, **streams) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if until in line:
                    break
            else:
                raise AssertionError(f"it ended without saying {until!r}")
            yield process, line.split()[-1]
        finally:
            process.kill()


# -- what the options come to -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ([], "tcp://127.0.0.1:18812"),
        (["--ipv6"], "tcp://[::1]:18812"),
        (["-p", "12345"], "tcp://127.0.0.1:12345"),
        (["--port", "0", "-m", "oneshot", "--host", "::1"], "tcp://[::1]:0"),
        (["--host", "0.0.0.0", "--insecure"], "tcp://0.0.0.0:18812"),
        (["-m", "stdio"], "stdio:"),
    ],
    ids=str,
)
def test_it_listens_where_rpyc_s_users_look_for_it(
    arguments: list[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(monkeypatch, *arguments)
    assert [listen.url for listen in config.listen] == [url]
    assert [(serve.service, serve.allow, serve.pickle) for serve in config.serve] == [("classic", ("*",), False)]


def test_its_certificates_and_who_may_come(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = authority.sign("127.0.0.1", file="of a lab & its hosts")
    files = ["--ssl-keyfile", str(lab.key), "--ssl-certfile", str(lab.cert)]
    (listen,) = configured(monkeypatch, *files).listen
    assert listen.url.startswith("tls://127.0.0.1:18821?cert=/")
    (guarded,) = configured(monkeypatch, *files, "--ssl-cafile", str(authority.file), "--host", "0.0.0.0").listen
    assert (guarded.url[:22], guarded.insecure) == ("tls://0.0.0.0:18821?ce", False)


def test_its_name_and_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ("threaded", "stdio"):
        config = configured(monkeypatch, "-m", mode, "--name", "lab", "--pickle")
        assert (config.node.name, config.serve[0].pickle) == ("lab", True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "tcp://0.0.0.0:18812: other machines can reach this, and whoever does can do"),
        (["--host", "::"], "--ssl-cafile; or --insecure, if you mean it"),
        (["-m", "forking", "--host", "192.0.2.1"], "or --insecure, if you mean it"),
        (["--register"], "there is no registry here: nodes tell each other whom they reach"),
        (["--ssl-keyfile", NULL], "TLS needs both --ssl-keyfile and --ssl-certfile"),
        (["--ssl-cafile", NULL], "TLS needs both --ssl-keyfile and --ssl-certfile"),
        (["--ssl-keyfile", NULL, "--ssl-certfile", NULL], "has no certificate in it"),
        (["--ssl-keyfile", NULL, "--ssl-certfile", NULL, "-m", "forking"], "the mode forking has no TLS"),
        (["--ssl-keyfile", "/nowhere"], "File '/nowhere' does not exist"),
        (["-m", "stdio", "-p", "0"], "--port: nobody is listened for in the mode stdio"),
        (["-m", "stdio", "--ipv6"], "--ipv6: nobody is listened for in the mode stdio"),
        (["--ipv6", "--host", "127.0.0.1"], "--ipv6: 127.0.0.1 is an address of IPv4"),
        (["--host", "a b"], "tcp://a b:18812: is not of the form tcp://host:port"),
        (["--name", "h q"], "'h q' is not a node name"),
        (["--mode", "gevent"], "'gevent' is not one of 'threaded', 'forking', 'stdio', 'oneshot'"),
        (["--port", "70000"], "70000 is not in the range 0<=x<=65535"),
        (["--logfile", "/nowhere/log"], "--logfile: [Errno 2] No such file or directory"),
    ],
    ids=str,
)
def test_what_cannot_be_says_what_to_do_instead(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["classic", *arguments])
    assert result.exit_code == 2, result.output
    assert told in result.output
    assert "Traceback" not in result.output


def test_options_of_a_registry_that_is_not_asked_are_only_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_for_ever", lambda _config: None)
    result = CliRunner().invoke(main, ["classic", "--registry-host", "x", "--registry-type", "tcp"])
    assert result.exit_code == 0
    assert [line for line in result.stderr.splitlines() if "registry" in line] == [
        "--registry-type says nothing without --register",
        "--registry-host says nothing without --register",
    ]


@pytest.mark.parametrize(
    ("arguments", "level"), [([], logging.INFO), (["-q"], logging.ERROR), (["-v"], logging.DEBUG), (["-m", "stdio"], logging.WARNING)], ids=str
)  # fmt: skip
def test_how_much_it_logs(arguments: list[str], level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, *arguments)
    assert logging.getLogger().level == level


def test_it_logs_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, "--logfile", str(tmp_path / "log"))
    configured(monkeypatch, "--logfile", str(tmp_path / "log"))
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2  # it is added to; and each time it was the same warning
    assert all("every local user has your shell" in line for line in lines)


def test_a_log_that_cannot_be_written_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run_for_ever", lambda config: logging.getLogger().error("of %s", config))
    result = CliRunner().invoke(main, ["classic", "--logfile", "/dev/full"])
    assert result.exit_code == 0
    assert result.stderr == "rpyc-gw: /dev/full: No space left on device: what is logged from here on is lost\n"


# -- what they do -------------------------------------------------------------------------------------------------------


def test_many_clients_share_one_process() -> None:
    with started("-p", "0", "--name", "lab", until="listening on") as (process, url):
        with gw.connect(url, name="a") as a, gw.connect(url, name="b") as b:
            assert a.modules.os.getpid() == b.modules.os.getpid() == process.pid
            a.execute("mine = 1")
            assert "mine" not in b.namespace  # as in RPyC, each has its own
            assert a.path == ("a", "lab")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_client_has_a_process_of_its_own() -> None:
    with ExitStack() as stack:
        process, url = stack.enter_context(started("-m", "forking", "-p", "0", until="listening on"))
        a, b = (stack.enter_context(gw.connect(url, name=name)) for name in "ab")
        first, second = (conn.modules.os.getpid() for conn in (a, b))
        assert len({first, second, process.pid}) == 3
        os.kill(first, signal.SIGKILL)
        with pytest.raises(gw.LinkLost):
            a.ping()
        assert b.ping("still there") == "still there"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not os.path.exists(f"/proc/{second}")


def test_one_client_and_no_more() -> None:
    with subprocess.Popen([*CLASSIC, "-q", "-m", "oneshot", "-p", "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "rpyc-oneshot\n"
            host, _, port = process.stdout.readline().rstrip().partition("\t")
            url = f"tcp://{host}:{port}"
            with gw.connect(url, name="first", service="node"):
                pass  # whoever only looks around is none
            with gw.connect(url, name="first") as conn:
                assert conn.eval("6 * 7") == 42
                with pytest.raises(gw.Denied, match=r"serves one client \(oneshot\), and that was another"):
                    gw.connect(url, name="second")
                assert conn.ping("not disturbed") == "not disturbed"
            assert process.wait(20) == 0
        finally:
            process.kill()


def test_one_client_that_is_killed_was_the_last() -> None:
    client = "import sys, rpyc_gateway as gw\nconn = gw.connect(sys.argv[1])\nprint(conn.eval('1'), flush=True)\nsys.stdin.read()"
    with started("-m", "oneshot", "-p", "0", until="listening on") as (process, url):
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", client, url], text=True, **pipes) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "1\n"
            program.kill()
        assert process.wait(20) == 0


def test_whoever_starts_it_has_it_on_its_streams() -> None:
    with gw.connect(f"stdio:{' '.join(CLASSIC)} -m stdio --name lab") as conn:
        assert conn.eval("print('not into the link') or 5") == 5
        assert conn.path[1:] == ("lab",)


def test_who_has_no_certificate_stays_out(authority: Authority) -> None:
    lab, laptop = authority.sign("127.0.0.1", file="server"), authority.sign("laptop")
    files = ("--ssl-keyfile", lab.key, "--ssl-certfile", lab.cert, "--ssl-cafile", authority.file)
    with started("-p", "0", *map(str, files), until=": listening on") as (_, url):
        with gw.connect(f"{url}?{laptop.shown(ca=authority.file)}") as conn:
            assert conn.eval("1 + 1") == 2
        with pytest.raises(gw.DialFailed, match="lets in only whom it can name"):
            gw.connect(f"{url}?ca={authority.file}")
