"""A host that has ssh and a Python, and nothing of this project: sessions with it, alone and behind gateways, and its end at any point."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.errors import DialFailed, LinkLost
from tests.chains.processes import LOOPBACK, RPYC_GW, House, connect_when_up, dial, listen, serve, wait_until
from tests.chains.sshd import Far, session_above, ssh_of
from tests.device.interpreters import EVERY, OLDEST

BARE = f"{OLDEST} -I"  # -I: what PYTHONPATH has is not there


@pytest.fixture(autouse=True)
def _nothing_is_left(far: Far) -> Iterator[None]:
    """No Python that ssh has started is left on the far side, which is this machine."""
    yield

    async def wait() -> None:
        await wait_until(lambda: not pythons(far))

    trio.run(wait)


def pythons(far: Far) -> list[str]:
    """Those that came through this daemon, and not through one of other tests."""
    return [place.name for place in Path("/proc").glob("[0-9]*") if is_of(place, far)]


def is_of(process: Path, far: Far) -> bool:
    try:
        waits = b"\0-i\0-c\0pass\0" in (process / "cmdline").read_bytes()
        return waits and b" %d\0" % far.port in (process / "environ").read_bytes()  # SSH_CONNECTION
    except OSError:
        return False


@pytest.mark.parametrize("interpreter", EVERY)
def test_its_objects_are_here_and_nothing_is_there(far: Far, interpreter: str, tmp_path: Path) -> None:
    with gw.connect(far.url(f"cd {tmp_path} && exec {interpreter} -I -B")) as conn:
        assert conn.modules.os.getpid() != os.getpid()
        assert conn.modules.os.environ["SSH_CONNECTION"].startswith("127.0.0.1 ")
        assert conn.eval("'rpyc_gateway' in __import__('sys').modules") is False
        with pytest.raises(FileNotFoundError) as caught:
            conn.builtins.open("/missing")
        assert str(caught.value) == "[Errno 2] No such file or directory: '/missing'"
        assert caught.value.errno == 2
        with pytest.raises(KeyError) as missing:
            conn.modules.os.environ["RPYC_GW_MISSING"]
        assert missing.value.args == ("RPYC_GW_MISSING",)
        with pytest.raises(gw.GatewayError, match="UnicodeDecodeError"):
            conn.eval(r"b'\xff'.decode()")
        assert conn.modules.collections.namedtuple("Point", "x y")(x=1, y=2)._asdict()["y"] == 2
        assert repr(conn.eval("list(range(9))")[::4]) == "[0, 4, 8]"
        assert list(conn.eval("{'a': 1, 'b': 2}")) == ["a", "b"]
        assert dict(conn.eval("{'a': 1, 'b': 2}").items()) == {"a": 1, "b": 2}
        assert gw.obtain(conn.eval("[1, {'a': (2, b'x')}]")) == [1, {"a": (2, b"x")}]
        with pytest.raises(gw.EncodeError, match="no plain data"):
            gw.obtain(conn.eval("[object()]"))
        conn.execute("def twice(f): return f(1) + f(2)")
        assert conn.namespace["twice"](lambda number: number * 10) == 30
        data = os.urandom(1 << 20)
        assert conn.modules.hashlib.sha256(data).hexdigest() == conn.modules.hashlib.new("sha256", data).hexdigest()
        assert conn.builtins.bytes(data) == data
        with pytest.raises(gw.TimedOut), gw.timeout(0.3):
            conn.modules.time.sleep(60)
        with gw.timeout(10):
            assert conn.eval("6 * 7") == 42
    assert list(tmp_path.iterdir()) == []


async def test_in_trio_code_an_expression_is_one_message_and_cancelling_reaches_it(far: Far) -> None:
    async with gw.open_session(far.url(BARE)) as lab:
        assert await lab.modules.os.path.join("a", "b") == "a/b"
        with trio.move_on_after(0.3) as scope:
            await lab.execute("while True: pass")
        assert scope.cancelled_caught
        with trio.fail_after(10):
            assert await lab.eval("6 * 7") == 42


def test_through_one_host_to_another(far: Far) -> None:
    with gw.connect(far.url(BARE, host="inner")) as conn:
        assert conn.eval("6 * 7") == 42


def test_what_a_shell_says_before_is_skipped(far: Far) -> None:
    with gw.connect(far.url(f"echo Welcome to far; cat {far.directory}/banner; exec {BARE}")) as conn:
        assert conn.eval("6 * 7") == 42


def test_where_the_package_is_installed_it_is_a_whole_node(far: Far) -> None:
    with gw.connect(far.url(sys.executable, of_url="?name=lab ")) as conn:
        assert conn.path[1:] == ("lab",)
        assert conn.eval("'rpyc_gateway' in __import__('sys').modules") is True
        assert conn.modules.os.environ["SSH_CONNECTION"].startswith("127.0.0.1 ")
    with gw.connect(far.url(sys.executable, of_url="?python=agent&name=lab ")) as conn:
        assert conn.path[1:] == ("lab",)
        assert conn.eval("'rpyc_gateway' in __import__('sys').modules") is False


# -- behind gateways


def test_a_gateway_keeps_it_as_a_node_that_anybody_reaches_whom_it_relays_for(far: Far, house: House) -> None:
    inner = house.start("inner", listen(LOOPBACK) + dial(far.url(BARE, of_url="?name=lab ")))
    outer = house.start("outer", listen(LOOPBACK) + dial(inner.url))
    with connect_when_up(outer.url, "lab") as conn:
        assert conn.path[1:] == ("outer", "inner", "lab")
        assert conn.namespace["__name__"] == "__main__"
        with pytest.raises(ZeroDivisionError):
            conn.eval("1 / 0")
        os.kill(ssh_of(inner.pid), signal.SIGKILL)
        with pytest.raises(LinkLost):
            conn.modules.time.sleep(30)
    with connect_when_up(outer.url, "lab") as conn:  # it was dialled again
        assert conn.eval("6 * 7") == 42
    told = subprocess.run([*RPYC_GW, "nodes", "--url", inner.url], capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in told.splitlines() if line.startswith("lab"))
    assert "bare Python 3." in line
    assert line.endswith("up")


def test_a_gateway_dials_it_for_a_client_or_for_another(far: Far, house: House) -> None:
    relay = house.start("relay", listen(house.socket("relay")) + serve("dial"))
    with gw.connect([relay.url, far.url(BARE)]) as conn:
        assert conn.path[1] == "relay"
        assert conn.modules.os.environ["SSH_CONNECTION"].startswith("127.0.0.1 ")
    with pytest.raises(DialFailed, match=r"relay could not dial .* python9: command not found.*install it|not found"):
        gw.connect([relay.url, far.url("python9")])
    house.start("hq", listen(LOOPBACK) + dial(relay.url) + dial(far.url(BARE, of_url="?name=lab "), via="relay"))
    with connect_when_up(relay.url, "lab") as conn:
        assert conn.path[1:] == ("relay", "lab")


def test_it_may_be_a_device_with_a_name_and_a_rule_of_its_own(far: Far, house: House) -> None:
    device = f'[[device]]\nname = "lab"\nurl = {far.url(sys.executable)!r}\nallow = ["uid:{os.getuid()}"]\n'
    hub = house.start("hub", listen(house.socket("hub")) + device)
    with connect_when_up(hub.url, "lab") as conn:
        assert conn.eval("'rpyc_gateway' in __import__('sys').modules") is False
        conn.execute("x = 1")
        with pytest.raises(LinkLost):
            conn.modules.os._exit(3)
    with connect_when_up(hub.url, "lab") as conn:
        assert conn.eval("'x' in globals()") is False


# -- the command line


def test_the_command_line_runs_code_there(far: Far) -> None:
    url = far.url(BARE)
    assert run("eval", "--url", url, "6 * 7") == (0, "42\n", "")
    assert run("exec", "--url", url, "-", said="print('a', 1, sep='')\nimport sys\nsys.exit(3)\n")[:2] == (3, "a1\n")
    status, output, errors = run("exec", "--url", url, "-", said="print(1)\n1 / 0\n")
    assert (status, output) == (1, "1\n")
    assert errors.startswith("Traceback")
    assert errors.endswith("ZeroDivisionError: division by zero\n")
    assert run("eval", "--url", far.url("python9"), "1")[0] == 69


def test_files_are_copied_as_with_a_board(far: Far, tmp_path: Path) -> None:
    url = far.url(BARE, of_url="?name=lab ")
    (tmp_path / "a").write_bytes(os.urandom(100_000))
    assert run("device", "put", "--url", url, "lab", f"{tmp_path}/a", f"{tmp_path}/b") == (0, "", "")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert run("device", "ls", "--url", url, "lab", str(tmp_path))[1].split() == ["100000", "a", "100000", "b"]


def test_a_directory_is_uploaded_and_downloaded(far: Far, tmp_path: Path) -> None:
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    (here / "below").mkdir(parents=True)
    for name, size in {"empty": 0, "small": 1000, "below/large": 1_000_000}.items():
        (here / name).write_bytes(os.urandom(size))
    with gw.connect(far.url(BARE)) as conn:
        assert gw.upload(conn, here, str(there)).files == 3
        assert gw.download(conn, str(there), back).files == 3
    for name in ("empty", "small", "below/large"):
        assert (back / name).read_bytes() == (here / name).read_bytes()


def run(*arguments: str, said: str = "") -> tuple[int, str, str]:
    done = subprocess.run([*RPYC_GW, *arguments], input=said, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


# -- its end


def end_of(conn: gw.BlockingSession) -> str:
    with pytest.raises(LinkLost) as caught:
        conn.modules.time.sleep(30)
    return str(caught.value)


def test_a_killed_ssh_ends_what_waits_and_is_named(far: Far) -> None:
    with gw.connect(far.url(BARE)) as conn:
        os.kill(ssh_of(os.getpid()), signal.SIGKILL)
        assert "was killed by SIGKILL" in end_of(conn)


def test_a_killed_python_ends_it_too_with_its_last_words(far: Far) -> None:
    with gw.connect(far.url(BARE)) as conn:
        conn.execute("import sys; print('my last words', file=sys.stderr)")
        pid = conn.modules.os.getpid()
        os.kill(pid, signal.SIGKILL)
        assert "exited with status 255: Authorized use only. | my last words" in end_of(conn)


def test_a_killed_sshd_session_ends_it_too(far: Far) -> None:
    with gw.connect(far.url(BARE)) as conn:
        os.kill(session_above(conn.modules.os.getpid()), signal.SIGKILL)
        assert "exited with status 255" in end_of(conn)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python9", r"exited with status 127: .*python9.* not found .*Python 3.8 or later is needed there: install it"),
        (f"{shlex.quote(OLDEST)} -I 2>&1", r"keep them apart \(no 2>&1\)"),
        ("exit 3; python3", r"exited with status 3"),
    ],
)
def test_what_is_no_python_is_told_with_what_to_do(far: Far, command: str, said: str) -> None:
    with pytest.raises(DialFailed, match=said):
        gw.connect(far.url(command))


def test_a_terminal_in_between_is_found_out(far: Far) -> None:
    with pytest.raises(DialFailed, match="drop -t and -tt"):
        gw.connect(far.url(BARE, options="-tt"))


def test_who_may_not_come_is_told_so(far: Far) -> None:
    with pytest.raises(DialFailed, match=r"status 255: .*Permission denied"):
        gw.connect(far.url(BARE, host="stranger"))
