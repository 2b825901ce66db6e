"""What we show runs: the README's lines and the examples, against the chain that we ship."""

from __future__ import annotations

import os
import re
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
    assert console.count("\n") == console.count("$ .venv/bin/rpyc-gw ") == 4
    for line in console.replace(SHIPPED, url).splitlines():
        command = line.removeprefix("$ .venv/bin/rpyc-gw")
        program = f"{sys.executable} -m rpyc_gateway {command}"
        assert subprocess.run(program, shell=True, cwd=ROOT, capture_output=True, timeout=60, check=True).stdout


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
    for example in [*ROOT.glob("examples/*.py"), *(file.parent for file in ROOT.glob("examples/*/pyproject.toml"))]:
        assert f"examples/{example.name}" in tests
