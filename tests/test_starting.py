"""What a process loads before it can do something. Not how long that takes: that is for the benchmarks; here is what must not be there at all."""

from __future__ import annotations

import ast
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rpyc_gateway
from rpyc_gateway.proto.frames import Hello, encode_hello

HEAVY = {
    "asyncio",
    "click",
    "difflib",
    "email",
    "email.message",
    "http",
    "http.client",
    "importlib.metadata",
    "multiprocessing",
    "numpy",
    "pydantic",
    "rich",
    "tomllib",
    "unittest",
    "xml",
}
"""What few programs need, or only to say that something is wrong."""


def loaded_after(code: str) -> set[str]:
    """The modules of a fresh process that has run this."""
    code += "\nimport sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_front_door_alone_loads_next_to_nothing() -> None:
    loaded = loaded_after("import rpyc_gateway")
    assert {name for name in loaded if name.startswith("rpyc")} == {"rpyc_gateway", "rpyc_gateway.version"}
    assert loaded.isdisjoint({*HEAVY, "trio", "msgspec", "inspect"})


def test_errors_can_be_named_without_the_rest() -> None:
    assert "trio" not in loaded_after("from rpyc_gateway import LinkLost, TimedOut")


@pytest.mark.parametrize("name", ["connect", "open_session", "serve", "open_node", "ops", "async_", "batch"])
def test_what_most_programs_need_loads_nothing_that_few_do(name: str) -> None:
    before = loaded_after("import trio")
    assert HEAVY.isdisjoint(loaded_after(f"from rpyc_gateway import {name}") - before)


def test_a_relay_on_standard_streams_loads_only_what_it_needs_to_say_hello() -> None:
    hello = encode_hello(Hello(name="hq", vat=16 * b"v", epoch=1))
    command = [sys.executable, "-X", "importtime", "-m", "rpyc_gateway", "stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as relay:
        assert relay.stdin is not None
        assert relay.stdout is not None
        assert relay.stderr is not None
        relay.stdin.write(hello)
        relay.stdin.flush()
        assert relay.stdout.read(8)[:1] == hello[:1]
        relay.stdin.close()
        loaded = set(re.findall(rb"\| +(\S+)\n", relay.stderr.read()))
    names = {name.decode() for name in loaded}
    assert "rpyc_gateway.gateway" in names
    # It cannot do without the command line, and without what finds transports, which reads mail headers.
    needed = {"click", "importlib.metadata", "email", "email.message"}
    assert (HEAVY - needed).isdisjoint(names)


# -- the front door ---------------------------------------------------------------------------------------------------------


def test_type_checkers_are_told_the_same_homes_as_programs_find() -> None:
    tree = ast.parse(Path(rpyc_gateway.__file__).read_text())
    told = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rpyc_gateway")
        for alias in node.names
    }
    rooms = {name for name, home in told.items() if home == "rpyc_gateway"}
    found = {name: f"rpyc_gateway.{home}" for name, home in rpyc_gateway._HOME_OF.items()}
    assert found | dict.fromkeys(rooms, "rpyc_gateway") | {"__version__": "rpyc_gateway.version"} == told
    assert set(told) == set(rpyc_gateway.__all__)


def test_every_name_is_there_in_each_way_to_ask_for_it() -> None:
    starred: dict[str, object] = {}
    exec("from rpyc_gateway import *", starred)
    for name in rpyc_gateway.__all__:
        assert starred[name] is getattr(rpyc_gateway, name)
    assert set(rpyc_gateway.__all__) <= set(dir(rpyc_gateway))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rpyc_gateway' has no attribute 'conect'"):
        rpyc_gateway.conect  # noqa: B018
    assert not hasattr(rpyc_gateway, "__path_of_somebody__")


def test_help_shows_what_is_behind_the_door() -> None:
    text = pydoc.plain(pydoc.render_doc(rpyc_gateway))
    assert "connect(url: " in text
    assert "class LinkLost" in text
