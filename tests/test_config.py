"""Configurations: what a right one means, and that a wrong one is told with all its mistakes, each in its place."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.config import Config, Device, Dial, Listen, NodeSection, Relay, Serve, default_name
from rpyc_gateway.errors import ConfigError
from rpyc_gateway.proto.frames import valid_name


def mistakes(text: str) -> list[str]:
    """What is said about a file `c.toml`, without its name."""
    with pytest.raises(ConfigError) as caught:
        Config.parse(dedent(text).lstrip("\n"), "c.toml")
    assert all(problem.startswith("c.toml:") for problem in caught.value.problems)
    return [problem.removeprefix("c.toml:") for problem in caught.value.problems]


def test_the_chain_of_the_manual_is_understood() -> None:
    config = Config.parse("""
        [node]
        name = "hq"
        [[listen]]
        url = "tcp://127.0.0.1:18860"
        [[dial]]
        url = "stdio:ssh ops@bastion rpyc-gw stdio --name bastion"
        [[dial]]
        via = "bastion"
        url = "tcp://10.1.0.7:18860"
        [[serve]]
        service = "classic"
        allow = ["uid:1000", "parent", "tty:/dev/ttyUSB0"]
    """)
    assert config.node.name == "hq"
    assert [listen.url for listen in config.listen] == ["tcp://127.0.0.1:18860"]
    assert [(dial.via, dial.url) for dial in config.dial][1] == ("bastion", "tcp://10.1.0.7:18860")
    assert config.serve[0].allow == ("uid:1000", "parent", "tty:/dev/ttyUSB0")
    assert config.relay.allow == ("*",)


def test_every_mistake_is_told_at_once_in_the_order_of_the_file() -> None:
    told = mistakes("""
        [node]
        name = "h q"
        nmae = "x"
        [[listen]]
        url = "tpc://127.0.0.1:1"
        [[dial]]
        via = 3
        [[serve]]
        service = "clasic"
        allow = ["*", "uid:x"]
        [serv]
    """)
    assert [problem.split(": ")[:2] for problem in told] == [
        ["2:1", "node.name"],
        ["3:1", "node.nmae"],
        ["5:1", "listen[0].url"],
        ["6:3", "dial[0].url"],
        ["7:1", "dial[0].via"],
        ["9:1", "serve[0].service"],
        ["10:15", "serve[0].allow[1]"],
        ["11:2", "serv"],
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[node]\nnmae = 'x'", "2:1: node.nmae: unknown key, did you mean `name`?"),
        ("[[listener]]\nurl = 'tcp://[::1]:1'", "1:3: listener: unknown key, did you mean `listen`?"),
        ("[listen]\nurl = 'tcp://[::1]:1'", "1:2: listen: is an array of tables: write [[listen]]"),
        ("node = 'hq'", "1:1: node: must be a table, not 'hq'"),
        ("[node]\nname = 7", "2:1: node.name: must be a string, not 7"),
        ("[node]\nname = '-x'", "2:1: node.name: '-x' is not a node name: 1 to 64 of A-Z a-z 0-9 . _ -"),
        ("[relay]\nallow = '*'", "2:1: relay.allow: must be an array, not '*'"),
        (
            "[relay]\nallow = ['root']",
            "2:10: relay.allow[0]: 'root' is not an identity: write '*' (anyone), 'parent', 'uid:N', 'cert:NAME' or 'tty:PATH'",
        ),
        ("[[serve]]\nservice = 'shell'", "2:1: serve[0].service: unknown service 'shell' (known: classic, dial, node)"),
        (
            "[[serve]]\nservice = 'classic'\nruns = 'inline'",
            "3:1: serve[0].runs: must be 'threads', 'main' or 'trio', not 'inline'",
        ),
        ("[[listen]]\ninsecure = true", "1:3: listen[0].url: is required"),
        (
            "[[listen]]\nurl = 'unix:///x'\ninsecure = 'yes'",
            "3:1: listen[0].insecure: must be true or false, not 'yes'",
        ),
        ("[[listen]]\nurl = 'tcp://[::1]'", "2:1: listen[0].url: is not of the form tcp://host:port"),
        (
            "[[dial]]\nurl = 'carrier:pigeon'",
            "2:1: dial[0].url: carrier:pigeon: no transport 'carrier' is installed (installed: ",
        ),
        ("[[dial]]\nurl = 'stdio:'", "2:1: dial[0].url: 'stdio:' does not say where to"),
        ("[node]\nname = 'hq'\n[[dial]]\nvia = 'hq'\nurl = 'tcp://a:1'", "4:1: dial[0].via: 'hq' is this node itself"),
        (
            "[[dial]]\nurl = 'tcp://a:1'\n[[dial]]\nurl = 'tcp://a:1'",
            "4:1: dial[1].url: 'tcp://a:1' is already in dial[0]",
        ),
        (
            "[[listen]]\nurl = 'unix:///x'\n[[listen]]\nurl = 'unix:///x'",
            "4:1: listen[1].url: 'unix:///x' is already in listen[0]",
        ),
        (
            "[[serve]]\nservice = 'node'\n[[serve]]\nservice = 'node'",
            "4:1: serve[1].service: 'node' is already in serve[0]",
        ),
        ("[[device]]\nname = 'b'", "1:3: device[0].url: is required"),
        ("[[device]]\nurl = 'serial:///dev/x'", "1:3: device[0].name: is required"),
        (
            "[[device]]\nname = 'b'\nurl = 'serial:///dev/x'\nbaud = 9600",
            "4:1: device[0].baud: unknown key",
        ),
        (
            "[[device]]\nname = 'pico-{serail}'\nurl = 'serial://?vid=2E8A'",
            "2:1: device[0].name: unknown field 'serail', did you mean `serial`? (known: vid, pid, serial, location)",
        ),
        (
            "[[device]]\nname = 'pico-{serial}'\nurl = 'serial:///dev/x'",
            "2:1: device[0].name: 'pico-{serial}' is a name for each of several boards, and 'serial:///dev/x' is one: ",
        ),
        (
            "[[device]]\nname = 'pico-{serial}'\nurl = 'rfc2217://host:1'",
            "2:1: device[0].name: 'pico-{serial}' is a name for each of several boards, and 'rfc2217://host:1' is one: ",
        ),
        (
            "[[device]]\nname = 'pico-{serial'\nurl = 'serial://?vid=2E8A'",
            "2:1: device[0].name: 'pico-{serial' is not a node name",
        ),
        (
            "[[device]]\nname = 'my {serial}'\nurl = 'serial://?vid=2E8A'",
            "2:1: device[0].name: 'my {serial}' is not a node name",
        ),
        ("[[device]]\nname = 'b'\nurl = 'serial:'", "3:1: device[0].url: 'serial:' does not say where to"),
        (
            "[[device]]\nname = 'b'\nurl = 'serial:///dev/x?baudrate=fast'",
            "3:1: device[0].url: ",
        ),
        (
            "[[device]]\nname = 'b'\nurl = 'seriel:///dev/x'",
            "3:1: device[0].url: seriel:///dev/x: no transport 'seriel' is installed",
        ),
        (
            "[node]\nname = 'hub'\n[[device]]\nname = 'hub'\nurl = 'serial:///dev/x'",
            "4:1: device[0].name: 'hub' is this node itself; a board is a node with a name of its own",
        ),
        (
            "[[device]]\nname = 'b'\nurl = 'serial:///dev/x'\n[[device]]\nname = 'b'\nurl = 'serial:///dev/y'",
            "5:1: device[1].name: 'b' is already in device[0]",
        ),
        (
            "[[device]]\nname = 'b'\nurl = 'serial:///dev/x'\n[[device]]\nname = 'c'\nurl = 'serial:///dev/x'",
            "6:1: device[1].url: 'serial:///dev/x' is already in device[0]",
        ),
        ("a = [", "1:6: TOML: Invalid value"),
        ('[node]\nname = "x', "2:10: TOML: Unterminated string"),
        ("[node]\nname = 'a'\nname = 'b'", "3:11: TOML: Cannot overwrite a value"),
        ("a = " + 3000 * "[", "1:1: TOML: arrays or tables are nested too deeply"),
    ],
)
def test_a_mistake_is_named_by_place_key_and_reason(text: str, told: str) -> None:
    (problem,) = mistakes(text)
    assert problem.startswith(told)


def test_the_same_node_may_be_dialled_from_here_and_from_a_relay() -> None:
    config = Config.parse("[[dial]]\nurl = 'tcp://a:1'\n[[dial]]\nvia = 'relay'\nurl = 'tcp://a:1'")
    assert len(config.dial) == 2


def test_a_listener_that_other_machines_reach_must_say_so() -> None:
    (problem,) = mistakes("[[listen]]\nurl = 'tcp://0.0.0.0:18860'")
    assert problem.startswith("2:1: listen[0].url: ")
    assert "`insecure = true`" in problem
    assert Config.parse("[[listen]]\nurl = 'tcp://0.0.0.0:18860'\ninsecure = true").listen[0].insecure


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:1", "tcp://[::1]:1", "unix:///tmp/hq.sock", "stdio:", "memory://hq"])
def test_a_private_listener_needs_no_more_words(url: str) -> None:
    assert Config.parse(f"[[listen]]\nurl = '{url}'").listen[0].url == url


def test_what_a_relay_dials_may_need_a_transport_that_only_the_relay_has(caplog: pytest.LogCaptureFixture) -> None:
    config = Config.parse("[[dial]]\nvia = 'relay'\nurl = 'carrier:pigeon'")
    assert config.dial[0].url == "carrier:pigeon"
    assert "no transport 'carrier' is installed" in caplog.text
    assert "relay will need it" in caplog.text


CLASSIC = "[[serve]]\nservice = 'classic'\nallow = ['*']\n[[listen]]\nurl = '{}'"


@pytest.mark.parametrize("service", ["classic", "dial"])
def test_what_is_as_good_as_a_shell_for_everybody_on_loopback_names_its_risk(
    service: str, caplog: pytest.LogCaptureFixture
) -> None:
    Config.parse(CLASSIC.format("tcp://127.0.0.1:18860").replace("classic", service))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"`{service}` is allowed to '*'" in record.getMessage()
    assert "every local user has your shell" in record.getMessage()


@pytest.mark.parametrize(
    "text",
    [
        CLASSIC.format("unix:///tmp/hq.sock"),
        CLASSIC.format("tcp://127.0.0.1:18860").replace("'*'", "'uid:0'"),
        CLASSIC.format("tcp://127.0.0.1:18860").replace("classic", "node"),
    ],
)
def test_what_exposes_nothing_warns_of_nothing(text: str, caplog: pytest.LogCaptureFixture) -> None:
    Config.parse(text)
    assert not caplog.records


def test_a_service_that_nobody_may_use_is_warned_of_unless_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    Config.parse("[[serve]]\nservice = 'node'\nallow = []\n[[serve]]\nservice = 'classic'\n")
    (record,) = caplog.records
    assert record.getMessage().startswith("serve[1].allow: is missing: `classic` is served to nobody")


def test_a_board_that_lets_in_nobody_is_warned_of_unless_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    Config.parse(
        "[[device]]\nname = 'a'\nurl = 'serial:///dev/a'\nallow = []\n[[device]]\nname = 'b'\nurl = 'serial:///dev/b'"
    )
    (record,) = caplog.records
    assert record.getMessage().startswith("device[1].allow: is missing: `b` lets in nobody")


def test_a_node_without_links_is_warned_of_where_nothing_else_links_it(caplog: pytest.LogCaptureFixture) -> None:
    Config.parse("[[dial]]\nurl = 'unix:///tmp/x'").warn_if_idle()
    Config.parse("[[listen]]\nurl = 'unix:///tmp/x'").warn_if_idle()
    idle = Config.parse("[node]\nname = 'hq'")
    assert not caplog.records
    idle.warn_if_idle()
    (record,) = caplog.records
    assert record.getMessage().startswith("listen, dial: there is neither: hq ")


SECTIONS = {"node": NodeSection, "listen": Listen, "dial": Dial, "device": Device, "serve": Serve, "relay": Relay}


def test_the_manual_names_every_key_in_its_section() -> None:
    page = (Path(__file__).parents[1] / "docs/configuration.md").read_text()
    told = {part.partition("`")[0].strip("[]"): part for part in page.split("\n## `")[1:]}
    assert list(told) == list(Config.keys)
    for section, keys in SECTIONS.items():
        missing = [key for key in keys.keys if f"\n| `{key}` |" not in told[section]]
        assert not missing, f"docs/configuration.md does not explain {section}: {missing}"


def test_the_examples_of_the_manual_are_right(caplog: pytest.LogCaptureFixture) -> None:
    page = (Path(__file__).parents[1] / "docs/configuration.md").read_text()
    Config.parse("\n".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)))
    assert not caplog.records


def test_a_configuration_made_in_python_is_held_to_the_same_rules() -> None:
    assert Config(node={"name": "hq"}, listen=[{"url": "unix:///tmp/hq.sock"}]).node.name == "hq"
    with pytest.raises(ConfigError, match=r"^listen\[0\]\.url: other machines .* `insecure = true`"):
        Config(listen=[{"url": "tcp://0.0.0.0:18860"}])
    with pytest.raises(ConfigError, match=r"^listen\[0\]\.url: other machines .* `insecure = true`"):
        Config(listen=(Listen(url="tcp://0.0.0.0:18860"),))
    with pytest.raises(ConfigError, match=r"^node\.name: 'h q' is not a node name"):
        Config(node={"name": "h q"})
    with pytest.raises(ConfigError, match=r"^name: 'h q' is not a node name"):
        NodeSection(name="h q")
    with pytest.raises(ConfigError, match=r"^dial\[0\]\.via: 'hq' is this node itself"):
        Config(node=NodeSection(name="hq"), dial=(Dial(via="hq", url="tcp://a:1"),))
    with pytest.raises(ConfigError, match=r"^service: must not be empty"):
        Serve(service="")


@given(host=st.text())
def test_any_host_name_makes_a_node_name(host: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: host)
        assert valid_name(default_name())


def test_a_node_without_a_name_is_called_like_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "_build host.lan")
    assert Config.parse("").node.name == "build-host.lan"
    assert mistakes("[[dial]]\nvia = 'build-host.lan'\nurl = 'tcp://a:1'")


def test_a_file_is_read_as_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes("\ufeff# été\n[node]\nname = 'hq'".encode())
    assert Config.load(file).node.name == "hq"
    file.write_bytes(b"# a\n# b\xff")
    with pytest.raises(ConfigError, match=r"c\.toml:2:4: TOML: byte 0xff is not UTF-8"):
        Config.load(str(file))
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        Config.load(tmp_path / "none.toml")


def test_no_text_breaks_it_otherwise_than_with_its_own_error() -> None:
    @given(st.text(st.sampled_from("[]{}=\"'.,#\n aurlnode1*"), max_size=40))
    def read(text: str) -> None:
        with suppress(ConfigError):
            Config.parse(text)

    read()
