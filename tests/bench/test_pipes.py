"""The benchmark of pipes runs, and reports what it found. How fast anybody is, is not judged here."""

from __future__ import annotations

import re

import pytest

from tests.bench import pipes


def test_every_pipe_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "CALLS", 5)
    monkeypatch.setattr(pipes, "OPENED", 2)
    assert pipes.main(["--rounds", "1"]) == 0
    told = capsys.readouterr().out
    for scheme in pipes.SCHEMES:
        assert re.search(rf"^\| {scheme} \|( [\d.]+ (us|ms|ms/MiB) \| [\d.]+x \|){{4}}$", told, re.MULTILINE)
    assert "A link over tcp: " in told
