"""The Pythons of this machine, for what runs under many of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["EVERY", "OLDEST", "find"]


@cache
def find(version: str) -> str:
    """A Python of this version, "" if there is none. A shim of a version manager may be none."""
    name = f"python{version}"
    managed = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions").glob(f"{version}.*/bin/{name}")
    found = (path for path in (shutil.which(name), *map(str, sorted(managed))) if path and _runs(path))
    return next(found, "")


def _runs(interpreter: str) -> bool:
    return not subprocess.run([interpreter, "-c", ""], capture_output=True, timeout=20, check=False).returncode


def _parameter(version: str) -> Any:
    path = find(version)
    return pytest.param(
        path, id=version, marks=pytest.mark.skipif(not path, reason=f"python{version} is not installed")
    )


EVERY = [*map(_parameter, ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13"))]
"""Parameters: each version that the agent is for."""

OLDEST = next(filter(None, map(find, ("3.8", "3.9", "3.10"))), sys.executable)
"""The one that differs most from the Python of these tests."""
