"""What is plugged in, which one is meant, and who has it."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from rpyc_transports import ports
from rpyc_transports.ports import Port, choose, holder, listing, twin

PICO = Port("/dev/ttyACM0", "2E8A", "0005", "E6614C77", "1-1", "Board in FS mode")
PROBE = Port("/dev/ttyACM1", "2E8A", "000C", "E6614C78", "1-2:1.1", "Debug Probe")
CLONE = Port("/dev/ttyUSB0", "1A86", "7523", "", "1-3", "USB Serial")
TWIN = CLONE._replace(path="/dev/ttyUSB1", location="1-4")
BUILT_IN = Port("/dev/ttyS0")
ALL = [PICO, PROBE, CLONE, TWIN, BUILT_IN]


def test_one_is_told_by_whatever_tells_it_from_the_others() -> None:
    assert choose({"serial": "e6614c77"}, ALL) == PICO
    assert choose({"vid": "2E8A", "pid": "000C"}, ALL) == PROBE
    assert choose({"vid": "1A86", "location": "1-4"}, ALL) == TWIN


def test_none_or_more_than_one_is_told_with_what_there_is() -> None:
    with pytest.raises(LookupError, match=re.escape(f"no port has vid 0403; {listing(ALL)}")):
        choose({"vid": "0403"}, ALL)
    with pytest.raises(LookupError, match=r"2 ports have vid 1A86: /dev/ttyUSB0 .*; /dev/ttyUSB1 .*; add serial= or"):
        choose({"vid": "1A86"}, ALL)
    with pytest.raises(LookupError, match="no serial port is plugged in"):
        choose({"vid": "0403"}, [])


def test_a_port_for_people() -> None:
    assert str(PICO) == "/dev/ttyACM0 (2E8A:0005, Board in FS mode, serial number E6614C77)"
    assert str(BUILT_IN) == "/dev/ttyS0"


def test_a_device_is_found_again_by_its_serial_number() -> None:
    moved = PICO._replace(path="/dev/ttyACM5")
    assert twin(PICO, [CLONE, moved]) == moved
    assert twin(PICO, [PROBE]) is None
    assert twin(CLONE, [TWIN]) is None  # nothing tells them apart


def test_of_a_device_with_several_ports_the_same_one_is_found() -> None:
    second = PICO._replace(path="/dev/ttyACM1")
    assert twin(PICO, [PICO, second]) == PICO
    assert twin(PICO._replace(path="/dev/ttyACM7"), [PICO, second]) is None


def test_what_to_write_is_what_stays_with_the_device() -> None:
    assert [port.place(ALL).url for port in ALL] == [
        "serial://?serial=E6614C77",
        "serial://?serial=E6614C78",
        "serial:///dev/ttyUSB0",
        "serial:///dev/ttyUSB1",
        "serial:///dev/ttyS0",
    ]
    assert CLONE.place([PICO, CLONE]).url == "serial://?vid=1A86&pid=7523"
    odd = PICO._replace(serial="A&B=?#ü")
    assert odd.place([odd]).url == "serial://?serial=A%26B%3D%3F%23%C3%BC"
    assert PICO.place(ALL).about == {
        "vid": "2E8A",
        "pid": "0005",
        "serial": "E6614C77",
        "location": "1-1",
        "product": "Board in FS mode",
    }
    assert BUILT_IN.place(ALL).about == {}


def test_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found(SimpleNamespace):
        def __lt__(self, other: Found) -> bool:
            return bool(self.device < other.device)

    nothing = {"vid": None, "pid": None, "serial_number": None, "location": None, "product": None}
    pico = {"vid": 0x2E8A, "pid": 5, "serial_number": "E6614C77", "location": "1-1", "product": "Board in FS mode"}
    found = [Found(device="/dev/ttyS0", **nothing), Found(device="/dev/ttyACM0", **pico)]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: found)
    assert ports.plugged_in() == [PICO, BUILT_IN]


def test_who_has_a_port_locked_is_known(tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.touch()
    assert holder(str(path)) == "another program"
    with path.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert holder(str(path)) == "this program itself"
    assert holder(str(tmp_path / "none")) == "another program"


def test_a_program_that_ended_meanwhile_has_a_number_only() -> None:
    assert ports._program(2**22 + 1) == f"a program with pid {2**22 + 1}"
    assert ports._program(os.getppid()).endswith(f"(pid {os.getppid()})")
