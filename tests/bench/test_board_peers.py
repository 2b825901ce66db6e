"""What is measured beside mpremote and belay is done as the command line does it."""

from __future__ import annotations

import math
from pathlib import Path

from rpyc_gateway.testing import BadLine
from tests.bench.board_peers import PAYLOAD, ours
from tests.device.boards import board_on, needs_micropython


@needs_micropython
async def test_each_unit_of_ours_does_what_it_says(tmp_path: Path) -> None:
    with BadLine(math.inf) as line, board_on(line.far):
        async with ours(line.near, math.inf, tmp_path) as units:
            done = {name: await unit() for name, unit in units.items()}
    assert done == {"call": 5, "method": 2, "up": len(PAYLOAD), "down": PAYLOAD, "put": None, "get": len(PAYLOAD)}
