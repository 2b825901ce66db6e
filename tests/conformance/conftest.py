"""One far side for each file, and the check that every test leaves it empty."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.conformance.far import Far, open_far


@pytest.fixture(scope="module")
def far() -> Iterator[Far]:
    gc.collect()
    gc.freeze()  # so that looking for what a test left behind does not look at all that pytest knows
    with open_far() as far:
        yield far
