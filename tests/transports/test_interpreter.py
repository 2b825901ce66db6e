"""Which commands end in a bare Python, and what becomes of them."""

from __future__ import annotations

import shlex

import pytest

from rpyc_transports.interpreter import waiting


@pytest.mark.parametrize(
    ("command", "started"),
    [
        ("python3", "python3 -i -c pass"),
        ("python3 -", "python3 -i -c pass"),
        ("/usr/bin/python3.8 -I", "/usr/bin/python3.8 -I -i -c pass"),
        ("python -uE -X dev -Wignore -W error", "python -uE -X dev -Wignore -W error -i -c pass"),
        ("ssh host python3", "ssh host python3 -i -c pass"),
        ("ssh -J jump ops@host sudo -n -u lab python3 -", "ssh -J jump ops@host sudo -n -u lab python3 -i -c pass"),
        ("ssh a ssh b python3", "ssh a ssh b python3 -i -c pass"),
        ("docker exec -i lab python3.13t", "docker exec -i lab python3.13t -i -c pass"),
        ("ssh host 'cd /srv && exec venv/bin/python'", "ssh host 'cd /srv && exec venv/bin/python -i -c pass'"),
        ("ssh host 'python3 - '", "ssh host 'python3 -i -c pass'"),
        ("ssh host 'python3 2>/dev/null'", "ssh host 'python3 2>/dev/null -i -c pass'"),
        ("su ops -c python3", "su ops -c 'python3 -i -c pass'"),
        ("su ops --command python3", "su ops --command 'python3 -i -c pass'"),
        ("ssh host 'sh -c \"python3\"'", None),
        ("python3 -m rpyc_gateway stdio", None),
        ("python3 -c pass", None),
        ("python3 program.py", None),
        ("python3 -V", None),
        ("ssh host rpyc-gw stdio --name python-lab", None),
        ("ssh -l python3 host", None),
        ("ssh host 'python3", None),
        ("docker run -i python:3.12", None),
        ("ssh host ''", None),
        ("cat", None),
    ],
)
def test_a_command_ends_in_a_bare_python_if_nothing_but_options_follows(command: str, started: str | None) -> None:
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split(" ", 2)
    assert waiting(words) == (started and shlex.split(started))
