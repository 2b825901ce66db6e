"""Large files take no more memory than small ones, wherever they pass."""

from __future__ import annotations

from pathlib import Path

from tests.bench.large_file import MiB, measure

SIZE = 64 * MiB
FEW = (
    32 * MiB
)  # chunks on their way, and what allocators keep; `python -m tests.bench.large_file` is about a file of 1 GiB


def test_a_file_of_64_mib_takes_a_few_of_memory_in_each_process(tmp_path: Path) -> None:
    for way, _, memory in measure(SIZE, tmp_path):
        grown = {name: most - before for name, (before, most) in memory.items()}
        assert max(grown.values()) < FEW, (way, grown)
        assert all(most for _, most in memory.values())
