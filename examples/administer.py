"""Look after several hosts behind a gateway: their disks, what uses most memory, and a line of a configuration file.

python examples/administer.py                                         # two nodes that it starts itself, and a file of its own
python examples/administer.py unix:///tmp/rpyc-gw-hq.sock relay lab   # looks only
python examples/administer.py --set /etc/app.conf level=debug unix:///tmp/rpyc-gw-hq.sock relay lab
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

import rpyc_gateway as gw

HERE = f"stdio:{sys.executable} -m rpyc_gateway stdio --serve classic --name"


def look() -> str:
    """Runs on a host, and is one question for all of it."""
    disk = shutil.disk_usage("/")
    listing = subprocess.run(["ps", "-eo", "rss=,comm="], capture_output=True, text=True, check=True).stdout
    processes = sorted((int(rss), name) for rss, name in (line.split(maxsplit=1) for line in listing.splitlines()))
    size, name = processes[-1]
    return f"{disk.free / disk.total:.0%} of the disk free, {len(processes)} processes, {name} has {size // 1024} MiB"


def set_option(path: str, key: str, value: str) -> str:
    """Runs on a host: whoever reads the file sees the old one or the new one, never half of it."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    before = [line for line in lines if line.partition("=")[0].strip() == key]
    if before == [f"{key}={value}"]:
        return f"{before[0]} already"
    lines = [line for line in lines if line not in before] + [f"{key}={value}"]
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        shutil.copymode(path, file.name)
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)
    return f"{lines[-1]}, which was {' '.join(before) or 'not there'}"


def main(*args: str) -> None:
    option: tuple[str, ...] = ()
    if args[:1] == ("--set",):
        path, (key, _, value), args = args[1], args[2].partition("="), args[3:]
        option = (path, key, value)
    hosts = [(args[0], node) for node in args[1:]] or [(f"{HERE} {name}", name) for name in ("anne", "bert")]
    for url, node in hosts:
        try:
            with gw.connect(url, node=node if args else None) as conn:
                print(f"{node}: {conn.teleport(look)()}")
                if option:
                    print(f"{node}: {conn.teleport(set_option)(*option)}")
        except (gw.GatewayError, OSError) as problem:  # the others are looked after all the same
            print(f"{node}: {problem}")


if __name__ == "__main__":
    if sys.argv[1:]:
        main(*sys.argv[1:])
    else:
        with tempfile.NamedTemporaryFile("w") as config:
            print("level=info", file=config, flush=True)
            main("--set", config.name, "level=debug")
