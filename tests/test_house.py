"""The house in order: every room has its tests, the front door says what it did yesterday, the signs point where they say."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

import rpyc_gateway
from rpyc_gateway.config import Config
from rpyc_gateway.transport import Transport

ROOT = Path(__file__).parents[1]

# Modules without a test file of their own, and who tests them instead.
TESTED_ELSEWHERE = {
    "rpyc_gateway/__init__.py": "here: the public names",
    "rpyc_gateway/__main__.py": "tests/cli/test_main.py",
    "rpyc_gateway/background.py": "tests/test_sync.py",
    "rpyc_gateway/desk.py": "tests/test_session.py, tests/test_stack.py, tests/test_sync.py",
    "rpyc_gateway/hearing.py": "tests/test_session.py, tests/chains/test_backpressure.py",
    "rpyc_gateway/far_calls.py": "tests/test_executor.py",
    "rpyc_gateway/incoming.py": "tests/test_filestore.py: a store begins each of them",
    "rpyc_gateway/landing.py": "tests/test_teleporting.py",
    "rpyc_gateway/trio_face.py": "tests/test_session.py, tests/test_client.py",
    "rpyc_gateway/cli/__init__.py": "tests/cli/test_main.py",
    "rpyc_gateway/cli/embedded.py": "tests/chains/test_boards.py: on a board",
    "rpyc_gateway/cli/at_board.py": "tests/cli/test_device.py",
    "rpyc_gateway/cli/onboard/__init__.py": "nothing in it",
    "rpyc_gateway/cli/onboard/files.py": "tests/cli/test_device.py, tests/cli/test_device_files.py",
    "rpyc_gateway/cli/onboard/installs.py": "tests/cli/test_device_install.py",
    "rpyc_gateway/cli/onboard/interpreters.py": "tests/cli/test_device.py",
    "rpyc_gateway/cli/onboard/mounts.py": "tests/cli/test_device_mount.py",
    "rpyc_gateway/cli/onboard/programs.py": "tests/cli/test_device.py",
    "rpyc_gateway/cli/onboard/resets.py": "tests/cli/test_device.py",
    "rpyc_gateway/cli/onboard/shells.py": "tests/cli/test_device_shell.py",
    "rpyc_gateway/cli/onboard/trees.py": "tests/cli/test_device_files.py",
    "rpyc_gateway/cli/onboard/watches.py": "tests/cli/test_device_watch.py",
    "rpyc_gateway/cli/pipes.py": "tests/cli/test_cp.py",
    "rpyc_gateway/cli/options.py": "tests/cli/test_failure.py, tests/cli/test_check.py",
    "rpyc_gateway/cli/table.py": "tests/cli/test_nodes.py, tests/cli/test_ports.py",
    "rpyc_gateway/device/__init__.py": "nothing in it",
    "rpyc_gateway/device/board.py": "tests/device/test_driver.py",
    "rpyc_gateway/device/program.py": "tests/device/test_small.py",
    "rpyc_gateway/device/flash.py": "tests/device/test_installed.py",
    "rpyc_gateway/device/arguments.py": "tests/device/test_standins.py",
    "rpyc_gateway/device/classic.py": "tests/device/test_node.py",
    "rpyc_gateway/device/deeds.py": "tests/device/test_standins.py",
    "rpyc_gateway/device/raising.py": "tests/device/test_standins.py",
    "rpyc_gateway/device/waiting.py": "tests/device/test_driver.py, tests/device/test_node.py",
    "rpyc_gateway/exception_proxy.py": "tests/test_exceptions.py",
    "rpyc_gateway/proto/rebuilt.py": "tests/proto/test_raised.py",
    "rpyc_gateway/testing/__init__.py": "tests/testing/: what it gives away is tested there",
    "rpyc_gateway/testing/__main__.py": "tests/testing/test_program.py",
    "rpyc_gateway/testing/listener_rules.py": "tests/testing/test_transports.py: each rule is seen to hold, and to be broken",
    "rpyc_gateway/testing/partner.py": "tests/testing/test_transports.py: the other end of all that is checked there",
    "rpyc_gateway/testing/pipe_rules.py": "tests/testing/test_transports.py: each rule is seen to hold, and to be broken",
    "rpyc_gateway/testing/trial.py": "tests/testing/test_transports.py: what it says is read there",
    "rpyc_gateway/whereabouts.py": "tests/test_pytest_plugin.py",
    "rpyc_gateway/version.py": "tests/cli/test_main.py",
    "rpyc_gateway/proto/__init__.py": "nothing in it",
    "rpyc_gateway/proto/events.py": "tests/proto/test_mux.py: what a machine says is seen in its tests",
    "rpyc_gateway/proto/labels.py": "tests/proto/test_mux.py, tests/proto/test_mux_laws.py",
    "rpyc_gateway/proto/lineevents.py": "tests/proto/test_line.py: what a machine says is seen in its tests",
    "rpyc_gateway/proto/linegreeting.py": "tests/proto/test_line.py",
    "rpyc_gateway/proto/linepace.py": "tests/proto/test_line.py",
    "rpyc_gateway/proto/linerate.py": "tests/proto/test_line.py",
    "rpyc_gateway/proto/linereceiving.py": "tests/proto/test_line.py, tests/proto/test_line_laws.py",
    "rpyc_gateway/proto/stream.py": "tests/proto/test_mux.py, tests/proto/test_mux_laws.py",
    "rpyc_gateway/proto/streams.py": "tests/proto/test_mux.py, tests/proto/test_mux_laws.py",
    "rpyc_gateway/proto/turns.py": "tests/proto/test_mux.py, tests/proto/test_mux_laws.py",
    "rpyc_gateway/proto/facts.py": "tests/proto/test_rpc.py",
    "rpyc_gateway/proto/packed.py": "tests/proto/test_values.py",
    "transports/rpyc_transports/__init__.py": "nothing in it",
    "transports/rpyc_transports/portserving.py": "tests/transports/test_serial.py, tests/transports/test_rfc2217.py",
    "transports/rpyc_transports/portsettings.py": "tests/transports/test_serial.py, tests/transports/test_rfc2217.py",
    "rpyc_gateway/device/hosted.py": "tests/device/test_bare.py: it is for other Pythons",
    "transports/rpyc_transports/uart.py": "tests/transports/test_serial.py",
    "transports/rpyc_transports/own_pipe.py": "tests/transports/test_stdio.py, tests/chains/test_activation.py: it is for good, so other processes take theirs",
}


PUBLIC = """
    connect serve BlockingSession open_session open_node Node Config Service expose ops checkpoint remote_path remote_traceback timeout
    thread async_ timed AsyncResult batch restricted
    GatewayError ConfigError ProtocolError LimitExceeded EncodeError Refused Denied NotExposed NoService DuplicateNode Unreachable
    NoCodec buffiter obtain deliver register_codec DialFailed LinkLost SessionClosed Cancelled TimedOut RemoteError PeerRestarted
    download transfer upload upload_package teleport imports Executor redirected_stdio interact post_mortem
"""


def test_the_front_door_has_the_names_that_users_rely_on() -> None:
    """To add one is a decision; to take one away breaks somebody's program (CHANGELOG.md)."""
    names = {name for name in dir(rpyc_gateway) if not name.startswith("_")}
    rooms = {name for name in names if isinstance(getattr(rpyc_gateway, name), ModuleType)} - {"ops"}
    assert names - rooms == set(PUBLIC.split())


def modules() -> list[str]:
    found = [*ROOT.glob("rpyc_gateway/**/*.py"), *ROOT.glob("transports/rpyc_transports/**/*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def home_of_tests(module: str) -> str:
    """`rpyc_gateway/cli/run.py` is tested in `tests/cli/test_run.py`."""
    room, _, name = module.rpartition("/")
    room = re.sub(
        r"^rpyc_gateway|^transports/rpyc_transports", lambda root: "transports" if "/" in root[0] else "", room
    )
    return "/".join(filter(None, ("tests", room.strip("/"), f"test_{name}")))


@pytest.mark.parametrize("module", modules())
def test_every_module_is_tested_where_one_looks_for_it(module: str) -> None:
    where = TESTED_ELSEWHERE.get(module)
    assert where or (ROOT / home_of_tests(module)).exists(), (
        f"write {home_of_tests(module)}, or say here who tests it instead"
    )
    if where:
        assert not (ROOT / home_of_tests(module)).exists(), "it has its own tests: take it off the list"


def test_the_list_of_exceptions_names_only_what_exists() -> None:
    assert set(TESTED_ELSEWHERE) <= set(modules())


def test_the_readme_has_the_two_commands_that_the_gate_runs() -> None:
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv ")]
    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/rpyc-gw demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[dev]' && .venv/bin/python -m pytest",
    ]
    # The gate takes them from the README; these are all it may know of them.
    assert "grep '^python3 -m venv ' README.md" in (ROOT / ".ci/run").read_text()


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/*.toml")), ids=lambda file: file.name)
def test_every_configuration_we_ship_is_right(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    Config.load(file)
    assert not caplog.records


def test_every_transport_we_register_can_be_loaded() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["rpyc_gateway.transports"]
    installed = {entry.name: entry for entry in entry_points(group="rpyc_gateway.transports")}
    assert set(ours) <= set(installed)
    assert all(isinstance(installed[name].load()(), Transport) for name in ours)


def test_the_version_is_one_number() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert rpyc_gateway.__version__ == project["version"]


def test_links_within_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\[[\w./ -]+\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_map_of_the_rooms_names_every_module() -> None:
    page = (ROOT / "docs/rooms.md").read_text()
    rooms = [Path(module) for module in modules() if "/cli/" not in module]
    missing = [room.name for room in rooms if not room.name.startswith("__") and f"`{room.name}`" not in page]
    assert set(missing) <= {"errors.py", "version.py"}, "docs/rooms.md does not say what they are for"
