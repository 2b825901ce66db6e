"""What RPyC's tutorial and its pages show, in our words: me - hq - a - lab, where lab is `rpyc-gw classic`, and me - hq - a - desk, which has services."""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import socket
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import rpyc_gateway as gw
from tests.chains.processes import LOOPBACK, RPYC_GW, connect_when_up, dial, listen, open_house

PROGRAM = str(Path(__file__).with_name("tutorial_services.py"))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_house() as house:
        lab = house.run("lab", *RPYC_GW, "classic", "-p", "0", "--name", "lab")
        house.run("desk", sys.executable, "-W", "error", PROGRAM, house.socket("desk"))
        a = house.start("a", listen(LOOPBACK) + dial(lab.url) + dial(house.socket("desk")))
        hq = house.start("hq", listen(LOOPBACK) + dial(a.url))
        connect_when_up(hq.url, "lab").close()
        with pytest.raises(gw.Denied, match="what is served: calculator, cautious, dial, filemonitor"):
            connect_when_up(hq.url, "desk")
        yield hq.url


@pytest.fixture
def conn(url: str) -> Iterator[gw.BlockingSession]:
    """`rpyc.classic.connect("lab")`."""
    with gw.connect(url, node="lab", name="me") as conn:
        yield conn


def serving(url: str, service: str) -> gw.BlockingSession:
    """`rpyc.connect("desk", port)`."""
    return gw.connect(url, node="desk", service=service, name="me")


# -- part 1: classic ----------------------------------------------------------------------------------------------------


def test_modules_of_the_server(conn: gw.BlockingSession, tmp_path: Path) -> None:
    remote_sys = conn.modules.sys
    assert "classic" in remote_sys.argv  # as it was started
    minidom = conn.modules["xml.dom.minidom"]
    assert minidom.parseString("<a><b/></a>").documentElement.tagName == "a"
    assert "no.such.module" not in conn.modules
    (tmp_path / "brought_along.py").write_text("answer = 42\n")
    remote_sys.path.append(str(tmp_path))
    assert conn.modules.brought_along.answer == 42
    remote_sys.path.remove(str(tmp_path))
    before = conn.modules.os.getcwd()
    conn.modules.os.chdir("/")
    assert conn.modules.os.getcwd() == "/" != os.getcwd()
    conn.modules.os.chdir(before)


def test_builtins_of_the_server(conn: gw.BlockingSession, tmp_path: Path) -> None:
    secret = tmp_path / "id_rsa"
    secret.write_text("-----BEGIN\n")
    with conn.builtins.open(str(secret)) as file:
        assert file.read() == "-----BEGIN\n"
        assert conn.builtin.open is conn.builtins.open  # the older name


def test_eval_and_execute_in_a_namespace_of_the_connection(conn: gw.BlockingSession, url: str) -> None:
    conn.execute("import math")
    assert conn.eval("2 * math.pi") == pytest.approx(6.283185307179586)
    assert "math" in conn.namespace
    conn.namespace["radius"] = 3
    assert conn.eval("radius * 2") == 6
    with gw.connect(url, node="lab", name="another") as another:
        assert "math" not in another.namespace


def test_functions_are_teleported(conn: gw.BlockingSession) -> None:
    def square(x: int) -> int:
        return x**2

    def where() -> int:
        return os.getpid()

    function = conn.teleport(square)
    assert function(2) == 4
    assert conn.teleport(where)() == conn.modules.os.getpid() != os.getpid()
    # RPyC defines it in the namespace, too. Here that is said.
    assert "square" not in conn.namespace
    conn.namespace["square"] = function
    assert conn.eval("square(3)") == 9
    assert conn.namespace["square"] is function
    # What RPyC cannot send: closures, defaults that are no constants.
    factor = [3]
    assert conn.teleport(lambda x, more=(1, [2]): x * factor[0] + more[1][0])(5) == 17


# -- part 2: proxies and exceptions -------------------------------------------------------------------------------------


def test_proxies_look_like_what_they_stand_for(conn: gw.BlockingSession) -> None:
    path = conn.modules.sys.path
    assert isinstance(conn.modules.sys, types.ModuleType)
    assert isinstance(path, list)
    assert type(path) is not list
    assert inspect.isbuiltin(conn.modules.os.listdir)
    assert inspect.isfunction(conn.modules.os.path.abspath)
    assert not inspect.ismethod(conn.modules.os.path.abspath)
    assert inspect.isbuiltin(conn.modules.sys.stdout.write)  # a method of C code is one; RPyC says it is a method
    assert {"append", "sort", "__len__"} <= set(dir(path))
    assert not {"____conn__", "____id_pack__"} & set(dir(path))  # nothing of ours is in the way


def test_exceptions_come_with_both_tracebacks(conn: gw.BlockingSession) -> None:
    with pytest.raises(IndexError, match="list index out of range") as caught:
        conn.modules.sys.path[300]
    assert type(caught.value) is IndexError
    assert gw.remote_path(caught.value) == ("lab", "a", "hq")
    assert "IndexError: list index out of range" in gw.remote_traceback(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.index("test_rpyc_tutorials.py") < shown.index("--- remote traceback (lab -> a -> hq) ---")


# -- part 3: services ---------------------------------------------------------------------------------------------------


def test_a_service_shows_what_is_exposed(url: str) -> None:
    with serving(url, "my") as c:
        assert c.root.get_answer() == 42
        assert c.root.exposed_get_answer() == 42  # the prefix may be said
        assert c.root.has_begun()
        with pytest.raises(AttributeError, match="get_question"):
            c.root.get_question()
        pair = c.root.Pair(3, 4)
        assert (pair.total(), pair.a) == (7, 3)


def test_marks_do_as_well_as_prefixes(url: str) -> None:
    with serving(url, "calculator") as c:
        assert c.root.add(4, 7) == 11
        with pytest.raises(ZeroDivisionError):
            c.root.div(4, 0)
        with pytest.raises(AttributeError):
            c.root.foo()


def test_services_are_found_by_name(url: str) -> None:
    """Instead of `discover` and `connect_by_service`, which ask a registry."""
    with gw.connect(url, service="node", name="me") as hq:
        known = {name: path for name, path, *_ in hq.root.nodes()}
    assert known["desk"] == ("hq", "a", "desk")
    with pytest.raises(gw.NoService, match=r"desk does not serve 'floop' \(it serves: calculator, "):
        serving(url, "floop")


def test_a_client_serves_what_it_hands_over(url: str) -> None:
    class Client(gw.Service):
        """RPyC's `connect(..., service=Client)`."""

        secret = "mine"

        @gw.expose
        def foo(self) -> str:
            return "foo"

    with serving(url, "meeting") as c:
        client = Client()
        assert c.root.bar(client) == "foobar"
        assert c.root.bar_with(client.foo) == "foobar"
        with pytest.raises(AttributeError, match="'secret' of"):
            c.root.peek(client)


def test_instances_with_arguments(url: str) -> None:
    """RPyC's `classpartial(RoomService, "blue", floor=2)`."""
    with serving(url, "room") as one, serving(url, "room") as other:
        assert one.root.place == other.root.place == ("blue", 2)
        one.root.guests.append("ada")
        assert (len(one.root.guests), len(other.root.guests)) == (1, 0)


def test_what_a_service_does_not_show(url: str, tmp_path: Path) -> None:
    file = tmp_path / "open"
    file.write_text("what may be read")
    with serving(url, "cautious") as c:
        view = c.root.open(str(file))
        assert view.read() == "what may be read"
        for name in ("seek", "name", "_rpyc_getattr"):
            with pytest.raises(AttributeError):
                getattr(view, name)
        view.close()
        wrapped = c.root.wrapped()
        assert wrapped.other == 19
        with pytest.raises(AttributeError):
            wrapped._secret  # noqa: B018
        assert c.root.secret == 18
        c.root.level = 5
        assert c.root.level == 5
        for name in ("secret", "hidden"):
            with pytest.raises(AttributeError):
                setattr(c.root, name, 1)


# -- part 4: callbacks --------------------------------------------------------------------------------------------------


def test_a_function_of_the_client_is_called_by_the_server(conn: gw.BlockingSession) -> None:
    seen: list[tuple[int, int]] = []

    def cube(x: int) -> int:
        seen.append((x, os.getpid()))
        return x**3

    remote = conn.builtins.list(conn.builtins.range(10))
    assert list(conn.builtins.map(cube, remote)) == [0, 1, 8, 27, 64, 125, 216, 343, 512, 729]
    assert seen == [(x, os.getpid()) for x in range(10)]  # it ran here
    assert gw.obtain(conn.builtins.sorted(remote, key=lambda x: -x))[:3] == [9, 8, 7]


# -- part 5: asynchronous calls, events ---------------------------------------------------------------------------------


def test_a_call_that_is_not_waited_for(conn: gw.BlockingSession) -> None:
    gate = conn.modules.threading.Event()
    result = gw.async_(gate.wait)()
    assert not result.ready
    gate.set()
    assert result.wait()
    assert (result.ready, result.error, result.value) == (True, False, True)
    # Without a name for the wrapper, which RPyC would have dropped.
    good, bad = gw.async_(conn.builtins.int)("8"), gw.async_(conn.builtins.int)("this is not a valid number")
    assert good.value == 8
    bad.wait()
    assert (bad.ready, bad.error) == (True, True)
    with pytest.raises(ValueError, match="invalid literal"):
        bad.value  # noqa: B018


def test_a_call_that_takes_too_long(conn: gw.BlockingSession) -> None:
    gate = conn.modules.threading.Event()
    in_time = gw.timed(gate.wait, 60)
    late = gw.timed(gate.wait, 0.01)()
    with pytest.raises(TimeoutError):
        late.value  # noqa: B018
    assert late.expired
    result = in_time()
    told: SimpleQueue[object] = SimpleQueue()
    result.add_callback(lambda ended: told.put(ended.value))
    gate.set()
    assert told.get() is True


def test_events_come_while_nobody_waits(url: str, tmp_path: Path) -> None:
    """No BgServingThread, no reactor: the main thread is in a queue of its own here."""
    path = tmp_path / "floop.bloop"
    path.write_text("")
    events: SimpleQueue[tuple[int, int]] = SimpleQueue()

    def on_file_changed(old: Any, new: Any) -> None:
        events.put((old.st_size, new.st_size))  # asked of the server, from the thread of the callback

    with serving(url, "filemonitor") as c:
        monitor = c.root.FileMonitor(str(path), on_file_changed, 0.005)
        monitor.seen.wait()
        with path.open("w") as file:
            file.write("shmoop")
            file.flush()
            sizes = events.get()
            while sizes[1] != 6:  # a change of its time may be seen before that of its size
                sizes = events.get()
            file.write("groop")
            file.flush()
            while sizes[1] != 11:
                sizes = events.get()
            assert sizes[1] == 11
        monitor.stop()


# -- how to: --------------------------------------------------------------------------------------------------------


def test_what_the_server_prints_is_printed_here(conn: gw.BlockingSession) -> None:
    here, remote_sys = io.StringIO(), conn.modules.sys
    before = remote_sys.stdout
    remote_sys.stdout = here
    try:
        conn.execute("print('hi here')")
    finally:
        remote_sys.stdout = before
    conn.execute("print('hi there')")
    assert here.getvalue() == "hi here\n"
    print("from here to there", file=conn.modules.sys.stdout)


def test_an_error_of_the_server_is_looked_into(
    conn: gw.BlockingSession, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RPyC's `pm`: its debugger there, with the streams of this side."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("up\np string\nquit\n"))
    error = conn.modules["xml.parsers.expat"].ExpatError
    with pytest.raises(error, match="not well-formed") as caught, gw.post_mortem(conn):
        conn.modules["xml.dom.minidom"].parseString("<<invalid xml>/>")
    assert "parser.Parse(string, True)" in gw.remote_traceback(caught.value)
    shown = capsys.readouterr().out
    assert "-> parser.Parse(string, True)\n(Pdb) " in shown
    assert "(Pdb) '<<invalid xml>/>'\n(Pdb) " in shown


@pytest.fixture
def inner_network() -> Iterator[int]:
    """A port that only the lab is said to reach. It answers with what it gets, in capitals."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)


def test_a_socket_of_the_server_is_a_tunnel(conn: gw.BlockingSession, inner_network: int) -> None:
    with conn.modules.socket.socket() as sock:
        sock.connect(("127.0.0.1", inner_network))
        sock.send(b"through a and hq")
        assert sock.recv(100) == b"THROUGH A AND HQ"
        peer = sock.getpeername()
    assert peer == ("127.0.0.1", inner_network)


def test_a_module_here_is_made_to_work_there(conn: gw.BlockingSession, tmp_path: Path) -> None:
    module = types.ModuleType("mymodule")
    exec(
        "import os\ndef pid(): return os.getpid()\ndef read(path):\n with open(path) as f: return f.read()",
        vars(module),
    )
    (tmp_path / "file").write_text("text")
    assert module.pid() == os.getpid()
    module.os = conn.modules.os  # type: ignore[attr-defined]
    module.open = conn.builtins.open  # type: ignore[attr-defined]
    assert module.pid() == conn.modules.os.getpid()
    assert module.read(str(tmp_path / "file")) == "text"


# -- the other pages ------------------------------------------------------------------------------------------------


def test_programs_run_there(conn: gw.BlockingSession) -> None:
    process = conn.modules.subprocess.Popen([sys.executable, "-c", "print('a b')"], stdout=-1, stderr=-1)
    stdout, stderr = process.communicate()
    assert (stdout.split(), stderr, process.returncode) == ([b"a", b"b"], b"", 0)


def test_by_value_and_back(conn: gw.BlockingSession) -> None:
    assert conn.builtins.range(7) == range(7)
    remote = conn.builtins.list(range(7))
    assert (type(gw.obtain(remote)), gw.obtain(remote)) == (list, [0, 1, 2, 3, 4, 5, 6])
    assert conn.builtins.type(gw.deliver(conn, {"a": [1]})).__name__ == "dict"
    assert list(gw.buffiter(conn.eval("(n * n for n in range(100))"))) == [n * n for n in range(100)]


def test_long_values_go_into_memory_that_is_there(conn: gw.BlockingSession) -> None:
    data = os.urandom(1 << 20)
    buffer = bytearray(len(data))
    assert conn.modules.io.BytesIO(data).readinto(buffer) == len(data)
    assert buffer == data
    assert conn.modules.hashlib.blake2b(data).digest() == hashlib.blake2b(data).digest()


def test_files_go_up_and_come_back(conn: gw.BlockingSession, tmp_path: Path) -> None:
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "inner" / "a.py").write_text("x = 1\n")
    gw.upload(conn, str(tmp_path / "package"), str(tmp_path / "there"))
    gw.download(conn, str(tmp_path / "there"), str(tmp_path / "back"))
    assert (tmp_path / "back" / "inner" / "a.py").read_text() == "x = 1\n"


def test_work_is_split_over_several_servers(url: str) -> None:
    """Parallel execution: as many calls under way as there are servers, or more."""
    with gw.connect(url, node="lab", name="one") as one, gw.connect(url, node="lab", name="two") as two:
        workers = [gw.async_(conn.eval("lambda n: sum(range(n))")) for conn in (one, two)]
        results = [workers[n % 2](n) for n in range(20)]
        assert [result.value for result in results] == [sum(range(n)) for n in range(20)]


def test_a_server_where_nothing_is_installed() -> None:
    """RPyC's zerodeploy, with ssh in front of `python3`."""
    with gw.connect(f"stdio:{sys.executable} -S") as conn:
        assert conn.modules.os.getpid() != os.getpid()
        assert conn.eval("6 * 7") == 42


async def test_the_same_in_trio_code(url: str) -> None:
    async with gw.open_session(url, node="lab") as lab:
        assert await lab.modules.os.path.join("a", "b") == "a/b"
        await lab.execute("def double(x): return 2 * x")
        assert await lab.namespace["double"](21) == 42
        assert [x async for x in lab.builtins.map(lambda x: x**3, range(4))] == [0, 1, 8, 27]
    async with gw.open_session(url, node="desk", service="calculator") as desk:
        with pytest.raises(ZeroDivisionError):
            await desk.root.div(1, 0)
