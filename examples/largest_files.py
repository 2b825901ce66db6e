"""The largest files of a directory on a node, in blocking code.

python examples/largest_files.py unix:///tmp/rpyc-gw-hq.sock lab /etc
"""

from __future__ import annotations

import sys

import rpyc_gateway as gw


def main(url: str, node: str, directory: str) -> None:
    """Ask for each file's size, one call after the other, and print the three largest."""
    with gw.connect(url, node=node) as conn:
        os = conn.modules.os
        paths = [os.path.join(directory, name) for name in os.listdir(directory)]
        sizes = [(os.lstat(path).st_size, path) for path in paths]
    for size, path in sorted(sizes, reverse=True)[:3]:
        print(f"{size:>12} {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
