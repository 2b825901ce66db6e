"""Names of parametrised tests that are the same in every process: the workers that share the tests compare them."""

from __future__ import annotations

import re

__all__ = ["named"]


def named(value: object) -> str:
    """What it looks like, without its address."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))[:80]
