"""A script for a node: it runs there with nothing but the standard library, and prints here.

rpyc-gw exec --url unix:///tmp/rpyc-gw-hq.sock lab examples/free_space.py
"""

from __future__ import annotations

import platform
import shutil

usage = shutil.disk_usage("/")
print(f"{platform.node()}: {usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f} GiB are free")
