"""`check_transport` lets the good ones pass, and says what is wrong with each of the wrong ones."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from rpyc_gateway.errors import ConfigError
from rpyc_gateway.testing import TransportFault, check_transport
from rpyc_gateway.testing.transports import RULES
from tests.testing.wrong_transports import FAULTS, Good, remembered

PARTNER = f"stdio:{sys.executable} -m rpyc_gateway.testing serve --alone stdio:"
WRONG = ["memory:", "memory:relay"]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Handlers fail in these tests, as they are asked to."""
    with caplog.at_level(logging.CRITICAL):
        yield


BUILT_IN = {
    "memory": {"url": "memory://relay", "wrong": ["memory:", "memory:relay"]},
    "tcp": {
        "url": "tcp://127.0.0.1:0",
        "wrong": ["tcp:", "tcp://relay", "tcp://relay:x", "tcp://::1:18860", "tcp://relay:65536"],
    },
    "unix": {"url": "unix://{folder}/s", "wrong": ["unix:", "unix:///", "unix://relative", f"unix:///{'x' * 200}"]},
    "stdio": {"url": None, "dial": PARTNER, "many": 5, "interruptions": 5, "wrong": ["stdio:'unbalanced"]},
}
"""What they are asked. A child process is not started for each step of a cancellation: it takes its time."""


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scheme", BUILT_IN)
async def test_what_we_ship_keeps_the_rules(scheme: str, rule: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    options = dict(BUILT_IN[scheme])
    url = options.pop("url")
    folder = tmp_path_factory.mktemp("s")
    seen = await check_transport(url and str(url).format(folder=folder), rules=[rule], **options)  # type: ignore[arg-type]
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
