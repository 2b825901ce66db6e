"""The benchmark runs, fails and looks into processes as it says. How fast anybody is, is not judged here."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import driver, report
from tests.bench.__main__ import main
from tests.bench.peers import ROWS, Row
from tests.bench.profiling import PROFILE
from tests.bench.workloads import chosen

TINY = 0.002  # seconds; a slot has as many units as the first guess
NOBODY = Row("nobody", "no row of the worker's", "none", "blocking")


def test_a_row_that_fails_is_told_and_the_others_are_measured(tmp_path: Path) -> None:
    workloads = chosen(["call", "chain", "iter_list"])
    rows = [ROWS["ours"], ROWS["rpyc"], NOBODY]
    with driver.open_clients(rows, tmp_path, None) as clients:
        slots = list(driver.run(clients, workloads, rounds=2, slot=TINY))

    failed = [slot for slot in slots if slot.row == "nobody"]
    assert [(slot.round, slot.workload) for slot in failed] == [(0, "call"), (0, "chain"), (0, "iter_list")]
    assert all(re.match(r"its process has ended\n(.*\n)*KeyError: 'nobody'$", slot.error) for slot in failed)

    measured = [slot for slot in slots if slot.row != "nobody"]
    assert len(measured) == len(workloads) * 2 * 2
    assert all(slot.value and slot.near_us and slot.far_us and not slot.error for slot in measured)

    page = "\n".join(report.tables(slots, workloads, rows))
    assert re.search(r"^\| call \| [\d.k]+ \| [\d.k]+ \| - \| calls/s \|$", page, re.MULTILINE)


def test_the_command_reports_and_names_who_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(ROWS, "elsewhere", replace(NOBODY, name="elsewhere", needs=("rpyc", "nowhere_to_be_found")))
    kept = tmp_path / "figures.jsonl"
    options = f"--pin none --rounds 1 --slot {TINY} --workloads call --only ours,rpyc,elsewhere --json {kept}"
    assert main(options.split()) == 0
    told = capsys.readouterr().out
    assert told.startswith("Left out: elsewhere, for nowhere_to_be_found is not installed.\n")
    assert re.search(r"^\| call \| ours \| rpyc \| 2x \| [\d.]+x \|", told, re.MULTILINE)
    assert [[*json.loads(line)] for line in kept.read_text().splitlines()] == [
        ["machine"],
        *[["slot"]] * 2,
        *[["target"]] * 2,
    ]


def test_files_are_copied_by_whoever_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "files"))
    workloads = chosen(["upload500", "download64m"])
    with driver.open_clients([ROWS["ours"], ROWS["ours-trio"], ROWS["rpyc"]], tmp_path, None) as clients:
        slots = list(driver.run(clients, workloads, rounds=1, slot=TINY))
        assert [slot.error for slot in slots if not slot.value] == []
        assert len(slots) == 3 * len(workloads)
    assert not list((tmp_path / "files").iterdir())


def test_what_a_peer_cannot_do_is_a_dash(tmp_path: Path) -> None:
    with driver.open_clients([ROWS["raw-trio"]], tmp_path, None) as [client]:
        assert client.ask(workload="callback", slot=TINY) == {"missing": True}
        assert client.ask(workload="trio_call", slot=TINY)["value"] > 0


@pytest.mark.parametrize("name", ["ours", "ours-trio"])
def test_a_profile_has_the_functions_of_both_sides(name: str, tmp_path: Path) -> None:
    with driver.open_clients([ROWS[name]], tmp_path, None, {PROFILE: "1"}) as [client]:
        found = client.ask(workload="chain", slot=TINY, profile=True)
    near, far = ({function: calls for function, calls, *_ in found["seen"][side]} for side in ("client", "serve 1"))
    assert any(function.endswith("Client.chain") for function in near)
    assert [calls for function, calls in far.items() if function.endswith(" join")] == [found["units"]]
    assert {"client", "serve 1", "all but the client"} == set(found["us"])
    assert re.search(r"^ +\d+ +[\d.]+% +[\d.]+% \S+", "\n".join(report.profile(found, found)), re.MULTILINE)
