"""`check_transport` lets the good ones pass, and says what is wrong with each of the wrong ones."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.reliable import reliable
from rpyc_gateway.testing import BadLine, BadWire, TransportFault, check_transport
from rpyc_gateway.testing.transports import RULES
from rpyc_gateway.transport import Pipe
from tests.testing.wrong_transports import FAULTS, Good, remembered
from tests.transports.authority import Authority

PARTNER = f"stdio:{sys.executable} -m rpyc_gateway.testing serve --alone stdio:"
WRONG = ["memory:", "memory:relay"]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Handlers fail in these tests, as they are asked to."""
    with caplog.at_level(logging.CRITICAL):
        yield


WRONG_URLS = {
    "memory": ["memory:", "memory:relay"],
    "tcp": ["tcp:", "tcp://relay", "tcp://relay:x", "tcp://::1:18860", "tcp://relay:65536", "tcp://relay:1?prxy=x"],
    "unix": ["unix:", "unix:///", "unix://relative", f"unix:///{'x' * 200}", "unix:///tmp/x?mode=yes"],
    "wss": ["wss:", "wss://", "wss://relay:x/", "wss://relay/?ping=often"],
    "stdio": ["stdio:'unbalanced"],
    "serial": ["serial:", "serial:///dev/ttyUSB0?baudrate=fast", "serial:///dev/ttyUSB0?bytesize=7"],
}


@contextmanager
def place(scheme: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Where a transport is checked, and what has to be known of it."""
    options: dict[str, Any] = {"url": f"{scheme}://127.0.0.1:0"}
    if scheme == "memory":
        options = {"url": "memory://relay"}
    elif scheme == "unix":
        options = {"url": f"unix://{folder}/s"}
    elif scheme == "stdio":  # starting a child takes its time
        options = {"url": None, "dial": PARTNER, "many": 5, "interruptions": 5}
    elif scheme == "wss":
        authority = Authority(folder)
        both = authority.sign("127.0.0.1").shown(client_ca=authority.file)
        client = authority.sign("ops@example.com").shown(ca=authority.file)
        options = {"url": f"{scheme}://127.0.0.1:0?{both}", "dial": lambda bound: f"{bound.partition('?')[0]}?{client}"}
    if scheme != "serial":
        yield options
        return
    with BadLine(921600, seed=1) as line:
        ports = [f"serial://{port}?baudrate=921600&fastest=0" for port in (line.near, line.far)]
        yield {"url": ports[0], "dial": ports[1], "many": 1, "layer": reliable, "interruptions": 5, "patience": 30.0}


CASES = [(scheme, rule) for scheme in WRONG_URLS for rule in RULES if scheme != "serial"]
CASES += [("serial", "slow_reader_stops_the_writer"), ("serial", "cancelled_listeners_leave_nothing")]
"""tls, ws and the rest of serial are held to the rules by their own tests."""


@pytest.mark.parametrize(("scheme", "rule"), CASES)
async def test_what_we_ship_keeps_the_rules(scheme: str, rule: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with place(scheme, tmp_path_factory.mktemp("s")) as options:
        seen = await check_transport(rules=[rule], wrong=WRONG_URLS[scheme], **options)
    assert seen[rule]


async def test_a_good_one_passes_and_it_is_told_what_was_seen() -> None:
    seen = await check_transport("memory://good", transport=Good(), wrong=WRONG)
    assert list(seen) == list(RULES)
    assert seen["both_ways_at_once"] == "8388608 bytes each way"
    assert seen["any_thread_sends_and_receives"] == "not asked: it offers no send_nowait"


@pytest.mark.parametrize("name", FAULTS)
async def test_a_wrong_one_is_found_out_and_it_is_said_why(name: str) -> None:
    wrong, rule, said = FAULTS[name]
    with remembered(), pytest.raises(TransportFault) as caught:
        await check_transport("memory://wrong", transport=wrong(), rules=[rule], wrong=WRONG, patience=0.2, many=3)
    first, *sentences = str(caught.value).splitlines()
    assert first == "memory://wrong breaks 1 of 1 rules:"
    assert sentences[0].startswith(f"{rule}: ")
    assert said in sentences[0]


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule for _, rule, _ in FAULTS.values()} == set(RULES)


async def test_an_unknown_rule_and_no_url_are_mistakes_of_the_caller() -> None:
    with pytest.raises(ValueError, match="there is no rule 'no_such_rule'"):
        await check_transport("memory://good", rules=["no_such_rule"])
    with pytest.raises(ValueError, match="needs a URL"):
        await check_transport(None)
    with pytest.raises(ConfigError, match="no transport 'nothing' is installed"):
        await check_transport("nothing:")


class Lossy(Good):
    """A medium that changes and loses bytes: the reliable line goes on top."""

    def wrap(self, pipe: Pipe) -> Pipe:
        return replace(pipe, reliable=False, rate=1_000_000.0, message=1024)


@pytest.mark.parametrize("rule", RULES)
async def test_the_reliable_line_over_a_bad_wire_keeps_the_rules(rule: str, autojump_clock: MockClock) -> None:
    async with BadWire("memory://lossy", "memory://wire", seed=3) as wire:
        wire.corrupt(0.0005)
        wire.lose(0.0002)
        options = {"dial": "memory://wire", "layer": reliable, "many": 1, "interruptions": 4, "patience": 40.0}
        await check_transport("memory://lossy", transport=Lossy(), rules=[rule], **options)  # type: ignore[arg-type]
