"""`rpyc-gw check`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from rpyc_gateway.cli import main


def test_a_right_file_is_ok(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[node]\nname = 'hq'\n[[listen]]\nurl = 'unix:///tmp/x'\n")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert (result.exit_code, result.output) == (0, f"{file}: ok, node hq\n")


def test_every_mistake_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("[node]\nnmae = 'x'\nname = 3\n")
    second.write_text("[[listen]]\nurl = 'tcp://0.0.0.0:1'\n")
    result = CliRunner().invoke(main, ["check", str(first), str(second), str(tmp_path / "none.toml")])
    assert (result.exit_code, result.stdout) == (78, "")
    lines = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"{first}:2:1",
        f"{first}:3:1",
        f"{second}:2:1",
        f"{tmp_path}/none.toml",
    ]


def test_a_file_that_cannot_be_read_is_told_in_our_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Nobody may read it, and for root too the answer must be that of opening it.
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    for command in (["check", str(tmp_path)], ["run", "--config", str(tmp_path)]):
        result = CliRunner().invoke(main, command)
        assert (result.exit_code, result.stderr) == (78, f"{tmp_path}: cannot be read: Is a directory\n")


def test_what_may_not_be_meant_is_a_note_with_the_name_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "100%s.toml"
    file.write_text("[[serve]]\nservice = 'classic'\n")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 0
    assert [line.partition(": is")[0].partition(": there")[0] for line in result.stderr.splitlines()] == [
        f"{file}: note: serve[0].allow",
        f"{file}: note: listen, dial",
    ]


def test_a_risk_is_named_without_failing(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[[listen]]\nurl = 'tcp://127.0.0.1:1'\n[[serve]]\nservice = 'classic'\nallow = ['*']\n")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 0
    assert "every local user has your shell" in result.stderr
    assert "every local user" not in CliRunner().invoke(main, ["-q", "check", str(file)]).stderr
