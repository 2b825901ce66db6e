"""The page for users of RPyC: it leaves out no name of RPyC's, names nothing of ours that is not there, and what it says to write works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType

import pytest
import rpyc.cli.rpyc_classic
import rpyc.utils.authenticators
import rpyc.utils.classic
import rpyc.utils.factory
import rpyc.utils.helpers
import rpyc.utils.registry
import rpyc.utils.server
import rpyc.utils.teleportation
import rpyc.utils.zerodeploy
from rpyc.core import async_, protocol, service

import rpyc_gateway as gw
from rpyc_gateway.cli import main
from rpyc_gateway.config import default_name
from tests.chains.processes import House, connect_when_up

PAGE = (Path(__file__).parents[2] / "docs/from-rpyc.md").read_text()
PROSE = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
WORDS = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", " ".join(re.findall(r"`[^`]+`", PROSE))))


def public(thing: object) -> list[str]:
    """The names that a module or a class of RPyC defines for its users."""
    own = thing.__name__ if isinstance(thing, ModuleType) else None
    return [
        name
        for name, value in vars(thing).items()
        if not name.startswith("_") and (own is None or getattr(value, "__module__", None) == own)
    ]


MODULES = (
    rpyc.utils.classic,
    rpyc.utils.helpers,
    rpyc.utils.server,
    rpyc.utils.factory,
    rpyc.utils.registry,
    rpyc.utils.authenticators,
    rpyc.utils.zerodeploy,
    rpyc.utils.teleportation,
    service,
    async_,
    protocol,
)
NAMES = {
    "rpyc": [name for name in dir(rpyc) if not name.startswith("_")],
    "configuration": list(protocol.DEFAULT_CONFIG),
    "connections": public(protocol.Connection),
    "servers": [name for name in public(rpyc.utils.server.Server) if name != "fileno"],
    "results": public(async_.AsyncResult),
    "services": public(service.Service),
    "slaves": public(service.SlaveService) + public(service.MasterService),
    **{module.__name__: public(module) for module in MODULES},
}
HIDDEN = {"exposed_get_service_name", "exposed_get_service_aliases"}  # said without their prefix


@pytest.mark.parametrize("where", sorted(NAMES))
def test_no_name_of_rpyc_is_left_out(where: str) -> None:
    assert NAMES[where]
    assert set(NAMES[where]) - WORDS - HIDDEN == set()


def test_no_option_of_its_command_is_left_out() -> None:
    switches = rpyc.cli.rpyc_classic.ClassicServer("rpyc_classic")._switches_by_name
    ours = {"help", "help-all", "h", "completions", "v"}
    missing = [name for name in switches if name not in ours and not re.search(rf"`--?{name}`", PAGE)]
    assert missing == []
    options = {option for parameter in main.commands["classic"].params for option in parameter.opts}
    assert {f"--{name}" if len(name) > 1 else f"-{name}" for name in switches if name not in ours} <= options | {
        "--version"
    }


def test_it_names_nothing_of_ours_that_is_not_there() -> None:
    names = set(re.findall(r"\bgw\.([A-Za-z_]+)", PAGE))
    assert [name for name in sorted(names) if not hasattr(gw, name)] == []
    commands = set(re.findall(r"`rpyc-gw ([a-z]+)", PAGE))
    assert sorted(commands) == ["classic", "nodes", "run", "shell"]
    assert {"classic", "nodes", "run"} <= set(main.commands)


def test_the_service_that_it_shows_is_served(house: House) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    url = house.socket("lab")
    assert block.count('"unix:///tmp/lab.sock"') == 2
    program = house.directory / "lab.py"
    program.write_text(block.replace("unix:///tmp/lab.sock", url))
    house.run("lab", sys.executable, "-W", "error", str(program))
    with pytest.raises(gw.Denied, match="what is served: dial, lab, node"):
        connect_when_up(url, default_name())
    with gw.connect(url, service="lab") as conn:
        assert (conn.root.read(7), conn.root.serial, conn.root.limit) == (3, 7, 3)
        conn.root.limit = 5
        assert conn.root.read(7) == 5
        told: SimpleQueue[str] = SimpleQueue()
        conn.root.reset(told.put)
        assert told.get() == "reset"
        for name in ("serial", "read", "reset", "new"):
            with pytest.raises(AttributeError):
                setattr(conn.root, name, 1)


PROGRAM = """
import rpyc_gateway as gw
class Lab(gw.Service):
    @gw.expose
    def answer(self):
        print("is not in the way")
        return 42
gw.serve(Lab, "stdio:")
"""


def test_a_program_of_ones_own_serves_on_its_streams(tmp_path: Path) -> None:
    """`connect_subproc` and `connect_stdpipes`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    with gw.connect(f"stdio:{sys.executable} {tmp_path}/program.py", service="lab") as conn:
        assert conn.root.answer() == 42


THREADED = """
import sys, threading, time
import rpyc_gateway as gw

class Lab(gw.Service, calls={"get_ident"}):
    get_ident = staticmethod(threading.get_ident)

url = sys.argv[1]
threading.Thread(target=gw.serve, args=(Lab, url), daemon=True).start()
while True:
    try:
        conn = gw.connect(url, service="lab")
        break
    except gw.DialFailed:  # not yet
        time.sleep(0.01)
print(conn.root.get_ident() != threading.get_ident())
"""


def test_a_service_is_in_a_thread_of_this_process(tmp_path: Path) -> None:
    """`connect_thread`. In a process of its own, since nobody ends that thread."""
    command = [sys.executable, "-W", "error", "-c", THREADED, f"unix://{tmp_path}/lab.sock"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (result.stdout, result.stderr, result.returncode) == ("True\n", "", 0)
