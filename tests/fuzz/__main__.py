"""`python -m tests.fuzz`: atheris searches for bytes that break a target; what it found comes to stand in `findings/`.

One process for each target, one after the other, for so many seconds each. `--replay FILE` runs one input again, with its traceback.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.targets import TARGETS, seeds

ONE_INPUT = 5  # seconds that a single input may take
MEMORY = 1024  # MB that a process may come to hold
FINDINGS = Path(__file__).parent / "findings"
LONGEST = 4096  # bytes of an input


def main(arguments: list[str]) -> int:
    """Search; 1 if a target broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; all without it")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="what chance follows from; 0 is another one each time")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input through the targets instead")
    options = parser.parse_args(arguments)
    for name in options.targets:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}")
    chosen = options.targets or list(TARGETS)
    if options.replay:
        for name in chosen:
            TARGETS[name](options.replay.read_bytes())
        return 0
    broken = [name for name in chosen if not _try(name, options.seconds, options.seed)]
    print(f"{len(chosen) - len(broken)} of {len(chosen)} targets held", *broken)
    return 1 if broken else 0


def _try(name: str, seconds: int, seed: int) -> bool:
    """In a process of its own: the search ends with it."""
    FINDINGS.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="fuzz-") as corpus:
        for number, data in enumerate(seeds()):
            Path(corpus, str(number)).write_bytes(data)
        flags = [
            f"-max_total_time={seconds}",
            f"-timeout={ONE_INPUT}",
            f"-rss_limit_mb={MEMORY}",
            f"-max_len={LONGEST}",
        ]
        flags += [f"-seed={seed}", f"-artifact_prefix={FINDINGS}/{name}-", "-print_final_stats=1", corpus]
        command = [sys.executable, "-m", "tests.fuzz.search", name, *flags]
        print(f"{name}: {seconds} s", flush=True)
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    lines = result.stderr.splitlines()
    if result.returncode:
        print(result.stdout[-5000:], *lines[-10:], sep="\n")
    else:
        print(*[line for line in lines if line.startswith(("Done", "stat::number_of_executed"))], sep="\n")
    return result.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
