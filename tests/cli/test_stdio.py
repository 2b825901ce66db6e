"""`rpyc-gw stdio`: what the command line makes of a configuration, and a node that ends with its parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rpyc_gateway.cli.stdio import configure
from rpyc_gateway.config import process_name


def test_without_words_it_listens_on_its_streams_and_serves_nobody() -> None:
    config = configure(None, (), None)
    assert config.node.name == process_name()
    assert [listen.url for listen in config.listen] == ["stdio:"]
    assert config.serve == ()


def test_words_go_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        "[node]\nname = 'a'\n[[listen]]\nurl = 'unix:///tmp/x.sock'\n[[serve]]\nservice = 'classic'\n"
        "[[serve]]\nservice = 'node'\nallow = ['parent']\n"
    )
    config = configure("b", ("classic", "classic"), str(file))
    assert config.node.name == "b"
    assert [listen.url for listen in config.listen] == ["unix:///tmp/x.sock", "stdio:"]
    assert [(serve.service, serve.allow) for serve in config.serve] == [("node", ("parent",)), ("classic", ("*",))]


def test_a_file_may_name_the_streams_itself(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[[listen]]\nurl = 'stdio:'\n")
    assert len(configure(None, (), str(file)).listen) == 1


def test_other_machines_are_let_in_if_the_words_say_so() -> None:
    assert [configure(None, (), None, insecure=insecure).listen[0].insecure for insecure in (False, True)] == [
        False,
        True,
    ]


def stdio(stdin: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rpyc_gateway", "stdio", "--name", "x"]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_ends_with_whoever_started_it() -> None:
    with stdio(subprocess.PIPE) as process:
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "", "")


def test_with_nobody_at_the_other_end_it_says_so() -> None:
    with stdio(subprocess.DEVNULL) as process:
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors.count("\n")) == (78, "", 1)
    assert "nobody is there" in errors
