"""What we show runs: the README's lines and the examples, against the chain that we ship."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import rpyc_gateway as gw
from rpyc_gateway.cli.demo import Hq, connect_when_up
from tests.running import chain

ROOT = Path(__file__).parents[1]
SHIPPED = "unix:///tmp/rpyc-gw-hq.sock"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with chain() as hq:
        yield hq.url


def python(*arguments: str) -> str:
    """What a Python process prints; it must end well and complain of nothing."""
    command = [sys.executable, "-W", "error", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_blocking_lines_of_the_readme_run(url: str) -> None:
    blocking, *_ = readme_blocks("python")
    assert SHIPPED in blocking
    said = python("-c", blocking.replace(SHIPPED, url)).splitlines()
    assert said[1:] == ["[Errno 2] No such file or directory: '/no/such/file'", "42"]


def test_the_trio_lines_of_the_readme_run(url: str) -> None:
    _, program, *_ = readme_blocks("python")
    assert python("-c", program.replace(SHIPPED, url)) == "a/b\n"


def test_the_commands_of_the_readme_run(url: str) -> None:
    (console,) = readme_blocks("console")
    assert console.count("\n") == console.count("$ .venv/bin/rpyc-gw ") == 5
    for line in console.replace(SHIPPED, url).splitlines():
        command = line.removeprefix("$ .venv/bin/rpyc-gw")
        program = f"{sys.executable} -m rpyc_gateway {command}"
        typed = b"print('typed')"  # at the shell
        assert subprocess.run(
            program, shell=True, cwd=ROOT, input=typed, capture_output=True, timeout=60, check=True
        ).stdout


def test_the_line_to_wait_for_comes(tmp_path: Path) -> None:
    (line,) = re.findall(r"wait for the line\n`(.*?)`", (ROOT / "README.md").read_text())
    config = tmp_path / "chain.toml"
    config.write_text((ROOT / "configs/chain.toml").read_text().replace("/tmp/rpyc-gw-hq.sock", f"{tmp_path}/s"))
    command = [sys.executable, "-m", "rpyc_gateway", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert any(line in said for said in process.stderr)
        finally:
            process.terminate()


def test_largest_files(url: str, tmp_path: Path) -> None:
    for size in (3, 1, 4, 2):
        (tmp_path / f"file{size}").write_bytes(bytes(size))
    said = python("examples/largest_files.py", url, "lab", str(tmp_path))
    assert [line.split() for line in said.splitlines()] == [[str(n), f"{tmp_path}/file{n}"] for n in (4, 3, 2)]


def test_first_answer(url: str) -> None:
    assert python("examples/first_answer.py", url, "lab", "lab").startswith("lab: Linux")


def test_free_space(url: str) -> None:
    said = python("-m", "rpyc_gateway", "exec", "--url", url, "lab", "examples/free_space.py")
    assert said.endswith(" GiB are free\n")


def test_lamp(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/lamp.sock"
    with subprocess.Popen([sys.executable, "-W", "error", "examples/lamp.py", url], cwd=ROOT) as process:
        try:
            with connect_when_up(Hq(url, process), node=None, service="lamp") as conn:
                assert conn.root.switch("on") == "it was off, it is on"
                with pytest.raises(gw.NotExposed):
                    conn.root._state  # noqa: B018
        finally:
            process.terminate()


def test_follow() -> None:
    assert python("examples/follow.py") == "line 1\nline 2\n"


@pytest.mark.parametrize("face", [[], ["--trio"]], ids=["blocking", "trio"])
def test_follow_a_file_that_is_replaced(url: str, tmp_path: Path, face: list[str]) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    command = [sys.executable, "-W", "error", "examples/follow.py", *face, url, "lab", str(log)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            # Nobody knows when it has come to the end of the file: what is written again and again is seen at last.
            with log.open("a") as file:
                while not select.select([process.stdout], [], [], 0.1)[0]:
                    print("one", file=file, flush=True)
            (tmp_path / "next").write_text("other\n")
            (tmp_path / "next").replace(log)
            for line in process.stdout:
                assert line in ("one\n", "other\n")
                if line == "other\n":
                    break
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def test_split_work(url: str) -> None:
    own = python("examples/split_work.py").splitlines()
    assert own[-1] == "There are 3245 primes below 30000."
    assert len(own) == 3
    assert python("examples/split_work.py", url, "lab").splitlines()[-1] == own[-1]


def test_thermostat(tmp_path: Path) -> None:
    heard = ["It is 20.0 degrees.", "20.0 -> 21.5"]
    assert python("examples/thermostat.py").splitlines() == heard
    url = f"unix://{tmp_path}/thermostat.sock"
    program = [sys.executable, "-W", "error", "examples/thermostat.py"]
    with subprocess.Popen([*program, "serve", url], cwd=ROOT) as process:
        try:
            connect_when_up(Hq(url, process), node=None, service="thermostat").close()
            with subprocess.Popen([*program, "watch", url], cwd=ROOT, stdout=subprocess.PIPE, text=True) as watch:
                assert watch.stdout
                assert watch.stdout.readline().strip() == heard[0]
                python(*program[3:], "set", url, "21.5")
                assert watch.stdout.read().strip() == heard[1]
            assert watch.returncode == 0
        finally:
            process.terminate()


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps is not installed")
def test_administer(url: str, tmp_path: Path) -> None:
    anne, edit, bert, again = python("examples/administer.py").splitlines()
    assert re.fullmatch(r"anne: \d+% of the disk free, \d+ processes, .+ has \d+ MiB", anne)
    assert edit == "anne: level=debug, which was level=info"
    assert bert.startswith("bert: ")
    assert again == "bert: level=debug already"
    config = tmp_path / "app.conf"
    config.write_text("one=1\ntwo=2\n")
    config.chmod(0o640)
    _, said, missing = python("examples/administer.py", "--set", str(config), "one=3", url, "lab", "ghost").splitlines()
    assert said == "lab: one=3, which was one=1"
    assert missing.startswith("ghost: ")
    assert config.read_text() == "two=2\none=3\n"
    assert config.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [config]


def test_two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # they are for us
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist")
    assert "2 passed" in python("-m", "pytest", *options, "examples/two_hosts")


EITHER = ROOT / "examples/either"


def test_the_transport_of_the_page_is_the_one_of_the_examples() -> None:
    page = (ROOT / "docs/transports.md").read_text()
    program = (EITHER / "rpyc_either.py").read_text()
    assert f"```python\n{program}```" in page
    assert program.count("\n") < 60
    assert f"```toml\n{(EITHER / 'pyproject.toml').read_text()}```" in page


@pytest.fixture
def either(tmp_path: Path) -> dict[str, str]:
    """An environment in which that package is installed: its files, and what pip would make of its entry point."""
    project = tomllib.loads((EITHER / "pyproject.toml").read_text())["project"]
    about = tmp_path / f"rpyc_either-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, entries),) = project["entry-points"].items()
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (about / "entry_points.txt").write_text(f"[{group}]\n{lines}")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{EITHER}"}


def test_the_transport_of_the_examples_keeps_all_rules(tmp_path: Path, either: dict[str, str]) -> None:
    url = f"either:tcp://127.0.0.1:0 or unix://{tmp_path}/s"
    command = [sys.executable, "-m", "rpyc_gateway.testing", "check", url]
    result = subprocess.run(command, env=either, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, "BROKEN" in result.stdout) == (0, False), result.stdout


def test_a_plug_in_is_listed_with_its_package_and_takes_the_second_way_where_the_first_is_closed(
    url: str, either: dict[str, str]
) -> None:
    rpyc_gw = [sys.executable, "-m", "rpyc_gateway"]
    listed = subprocess.run(
        [*rpyc_gw, "transports"], env=either, capture_output=True, text=True, timeout=60, check=True
    )
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("either:")]
    assert line.endswith("[rpyc-either 1.0]")
    command = [*rpyc_gw, "eval", "--url", f"either:tcp://127.0.0.1:1 or {url}", "lab", "6 * 7"]
    said = subprocess.run(command, env=either, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == "42\n"


def test_every_example_is_run_here() -> None:
    tests = Path(__file__).read_text()
    for example in (path for path in ROOT.glob("examples/*") if path.name != "__pycache__"):
        assert f"examples/{example.name}" in tests
