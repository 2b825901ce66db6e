"""What we show runs: the README's lines and the examples, against the chain that we ship."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

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
    blocking, _ = readme_blocks("python")
    assert SHIPPED in blocking
    said = python("-c", blocking.replace(SHIPPED, url)).splitlines()
    assert said[1:] == ["[Errno 2] No such file or directory: '/no/such/file'", "42"]


def test_the_trio_lines_of_the_readme_run(url: str) -> None:
    _, lines = readme_blocks("python")
    program = f"import trio\nimport rpyc_gateway as gw\nasync def main():\n{indent(lines, '    ')}\ntrio.run(main)"
    assert python("-c", program.replace(SHIPPED, url)) == "a/b\n"


def test_the_commands_of_the_readme_run(url: str) -> None:
    (console,) = readme_blocks("console")
    nodes, evaluate, *_ = (
        line.removeprefix("$ ").partition("  #")[0].replace(SHIPPED, url) for line in console.splitlines()
    )
    for command in (nodes, evaluate):
        program = command.replace("rpyc-gw", f"{sys.executable} -m rpyc_gateway", 1)
        assert subprocess.run(program, shell=True, capture_output=True, text=True, timeout=60, check=True).stdout


def test_largest_files(url: str, tmp_path: Path) -> None:
    for size in (3, 1, 4, 2):
        (tmp_path / f"file{size}").write_bytes(bytes(size))
    said = python("examples/largest_files.py", url, "lab", str(tmp_path))
    assert [line.split() for line in said.splitlines()] == [[str(n), f"{tmp_path}/file{n}"] for n in (4, 3, 2)]


def test_first_answer(url: str) -> None:
    assert python("examples/first_answer.py", url, "lab", "lab").startswith("lab: Linux")


def test_every_example_is_run_here() -> None:
    tests = Path(__file__).read_text()
    for example in ROOT.glob("examples/*.py"):
        assert f"examples/{example.name}" in tests
