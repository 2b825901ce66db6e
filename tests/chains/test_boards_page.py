"""The page for who has just unpacked a board, done from its first command to its last: with two gateways, and MicroPython at the end of a serial line."""

from __future__ import annotations

import contextlib
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rpyc_gateway.testing import BadLine
from tests.chains.processes import RPYC_GW, connect_when_up, open_house
from tests.device.boards import board_on, needs_micropython

pytestmark = needs_micropython

PAGE = (Path(__file__).parents[2] / "docs/boards.md").read_text()
UP_WITHIN = 15.0

# What MicroPython's unix port has not: pins. Each change of one is a line of the file `led`, with no line before there is any.
MACHINE = """
class Pin:
    OUT = 1
    levels = {}

    def __init__(self, number, mode=0):
        self.number = number
        self.levels.setdefault(number, 0)

    def value(self, *level):
        if not level:
            return self.levels[self.number]
        self.levels[self.number] = int(level[0])
        with open("led", "a") as led:
            led.write("%d=%d\\n" % (self.number, level[0]))

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def toggle(self):
        self.value(not self.value())
"""


def blocks(language: str, chapter: str) -> list[str]:
    """The blocks of a language in the chapter whose title begins so."""
    (text,) = re.findall(rf"^## {re.escape(chapter)}.*?$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


class Unpacked(NamedTuple):
    """A board that has come out of its box, whose flash is a directory of this machine, and who sits before it."""

    directory: Path
    line: BadLine

    def here(self, text: str, bastion: str = "") -> str:
        """What the page says, with the names that things have here."""
        for there, name in (
            ("/dev/ttyACM0", self.line.near),
            ("tcp://0.0.0.0:18860", "tcp://127.0.0.1:0"),
            ("tcp://bastion:18860", bastion or "tcp://127.0.0.1:1"),
            ("/tmp/rpyc-gw-bench.sock", f"{self.directory}/s"),
            ("sleep(0.5)", "sleep(0.01)"),
            ("sleep(0.1)", "sleep(0.01)"),
        ):
            text = text.replace(there, name)
        return text

    def do(self, chapter: str, *, bastion: str = "", given: str = "") -> list[str]:
        """Every command of a chapter; what each has said."""
        said = []
        for line in self.here("".join(blocks("console", chapter)), bastion).splitlines():
            command = f"{sys.executable} -W error -m rpyc_gateway {line.removeprefix('$ rpyc-gw ')}"
            assert "$ rpyc-gw " in line
            done = subprocess.run(
                command, shell=True, cwd=self.directory, input=given, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            said.append(done.stdout)
        return said

    def levels(self) -> str:
        """What the LED has shown since this was asked last."""
        led = self.directory / "led"
        shown = led.read_text() if led.exists() else ""
        led.unlink(missing_ok=True)
        assert all(line.startswith("25=") for line in shown.splitlines())
        return "".join(line[-1] for line in shown.splitlines())


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unpacked]:
    directory = tmp_path_factory.mktemp("board")
    (directory / "machine.py").write_text(MACHINE)
    with BadLine(math.inf) as line, contextlib.ExitStack() as stack:
        with contextlib.chdir(directory):  # what the board has for its flash
            stack.enter_context(board_on(line.far))
        yield Unpacked(directory, line)


def test_the_first_blink_is_at_the_port(unpacked: Unpacked) -> None:
    unpacked.do("2.")
    program, typed = blocks("python", "3.")
    (unpacked.directory / "blink.py").write_text(unpacked.here(program))
    what, ran, _ = unpacked.do("3.", given=typed)
    assert "micropython" in what
    assert ran == "blinked\n"
    assert unpacked.levels() == "10" * 5 + "10"


def test_it_blinks_through_two_gateways_from_commands_and_both_faces(unpacked: Unpacked) -> None:
    (unpacked.directory / "blink.py").write_text(unpacked.here(blocks("python", "3.")[0]))
    with open_house() as house:

        def run(name: str, chapter: str, bastion: str = "") -> str:
            file = unpacked.directory / f"{name}.toml"
            (text,) = blocks("toml", chapter)
            assert text.startswith(f"# {name}.toml\n")
            file.write_text(unpacked.here(text, bastion))
            process = house.run(name, *RPYC_GW, "run", "--config", str(file))
            assert all("error" not in checked for checked in unpacked.do(chapter, bastion=bastion))
            return "" if bastion else process.url

        bastion = run("bastion", "5.")
        run("bench", "4.", bastion)
        connect_when_up(bastion, "board", within=UP_WITHIN).close()

        nodes, ran, level, put = unpacked.do("6.", bastion=bastion)
        assert "bastion > bench > board" in nodes
        assert (ran, level) == ("blinked\n", "0\n")
        assert (unpacked.directory / "main.py").read_text() == (unpacked.directory / "blink.py").read_text(), put
        assert unpacked.levels() == "10" * 5

        blocking, imported, trio = blocks("python", "6.")
        assert say(unpacked.here(blocking, bastion)).endswith("'bastion', 'bench', 'board') 1\n")
        assert unpacked.levels() == "10101"
        assert say(unpacked.here(imported, bastion)) == ""
        assert unpacked.levels() == "1"
        assert say(unpacked.here(trio, bastion)) == "1\n"
        assert unpacked.levels() == "0101"


def say(program: str) -> str:
    """What a program prints, which must complain of nothing."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_the_page_says_that_these_programs_say_is_what_they_say() -> None:
    (chapter,) = re.findall(r"^## When it does not work$(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    texts = re.findall(
        r"`([^`]+)`", "".join(row.split(" | ")[0] for row in re.findall(r"^\| .*", chapter, re.MULTILINE))
    )
    ours = [
        text for text in texts if not re.match(r"(Import|Attribute|Type)Error: |toggle", text)
    ]  # others are the board's
    root = Path(__file__).parents[2]
    source = "".join(
        file.read_text() for part in ("rpyc_gateway", "transports") for file in (root / part).rglob("*.py")
    )
    parts = [part.strip() for text in ours for part in re.split(r"\.\.\.|; ", text)]
    assert len(parts) > 20
    assert [part for part in parts if part not in source] == []


def test_every_block_that_can_run_here_is_run_by_this_file() -> None:
    run = [
        block
        for language in ("python", "toml", "console")
        for number in "23456"
        for block in blocks(language, f"{number}.")
    ]
    assert len(run) == len(re.findall(r"^```\w", PAGE, re.MULTILINE))
