"""What the far side prints appears here: blocking code and trio code, over one link and four, of one session and not of another."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import SimpleNamespace
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import outlets
from rpyc_gateway.redirection import Redirected, print_piece, read_piece
from tests.blocking_house import House, open_blocking_lab
from tests.device.interpreters import EVERY

Do = Callable[[str], Any]
STREAMS = "(lambda sys, thread: (sys.stdin, sys.stdout, sys.stderr, thread.Thread.start))(__import__('sys'), __import__('threading'))"


@pytest.fixture(scope="module", params=[1, 4], ids=["0 relays", "3 relays"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with open_blocking_lab(request.param) as house:
        yield house


@pytest.fixture(params=["blocking", "trio"])
def printed(request: pytest.FixtureRequest, house: House) -> Callable[..., str]:
    """What appears here when these statements are executed there, one after the other, with a bar printed here behind each."""

    def blocking(*statements: str) -> None:
        with house.connect() as conn, gw.redirected_stdio(conn):
            for statement in statements:
                conn.execute(statement)
                sys.stdout.write("|")

    async def in_trio(*statements: str) -> None:
        async with gw.open_session(house.url, node="lab") as lab, gw.redirected_stdio(lab):
            for statement in statements:
                await lab.execute(statement)
                sys.stdout.write("|")

    def run(*statements: str) -> str:
        with redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")) as here, redirect_stderr(here):
            if request.param == "blocking":
                blocking(*statements)
            else:
                trio.run(in_trio, *statements)
        here.flush()
        return here.buffer.getvalue().decode("utf-8", "backslashreplace")  # type: ignore[attr-defined]

    return run


def test_what_a_call_prints_is_here_before_its_result(printed: Callable[..., str]) -> None:
    many = "for n in range(300): print(n, end=' ')"
    assert printed("print('süß ✓')", many, "print(1); print(2)", "pass") == (
        f"süß ✓\n|{''.join(f'{n} ' for n in range(300))}|1\n2\n||"
    )


def test_both_streams_and_bytes_keep_their_order(printed: Callable[..., str]) -> None:
    assert (
        printed(
            "import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.buffer.write(b'\\xff')\nsys.stdout.buffer.flush()\nsys.stderr.write('c')",
            "print('lone \\ud800 surrogate', flush=True)",
        )
        == "a\nb\n\\xffc|lone \\ud800 surrogate\n|"
    )


def test_threads_that_a_call_has_started_print_here_too(printed: Callable[..., str]) -> None:
    started = (
        "import threading\nthread = threading.Thread(target=print, args=('thread',))\nthread.start()\nthread.join()"
    )
    pooled = "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(1) as pool:\n    pool.submit(print, 'pooled')"
    shown = printed(started, pooled, "print('end')")
    assert shown.replace("|", "").split() == ["thread", "pooled", "end"]


def test_what_an_async_function_prints_is_here_before_its_result(house: House) -> None:
    with house.connect() as conn, redirect_stdout(io.StringIO()) as here, gw.redirected_stdio(conn):
        conn.execute("async def say(n):\n    import trio\n    await trio.sleep(0)\n    print('said', n)\n    return n")
        assert conn.namespace["say"](3) == 3
        assert here.getvalue() == "said 3\n"


def test_input_is_read_here(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys,
        "stdin",
        io.StringIO("Zoë\nb\nc\n"),
    )
    with house.connect() as conn, redirect_stdout(io.StringIO()) as here, gw.redirected_stdio(conn):
        assert conn.eval("input('name? ')") == "Zoë"
        assert here.getvalue() == "name? "
        assert conn.eval("[next(__import__('sys').stdin), __import__('sys').stdin.readline(1)]") == ["b\n", "c"]

    async def in_trio() -> None:
        async with gw.open_session(house.url, node="lab") as lab, gw.redirected_stdio(lab):
            assert await lab.eval("__import__('sys').stdin.readline()") == "\n"

    trio.run(in_trio)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\nrest")))
    with house.connect() as conn, gw.redirected_stdio(conn):
        assert conn.eval("__import__('sys').stdin.buffer.readline()") == b"\xff\xfe\n"
        assert conn.eval("__import__('sys').stdin.read()") == "rest"
        with pytest.raises(EOFError):
            conn.eval("input()")


def test_without_streams_here_nothing_is_shown_and_input_is_at_its_end() -> None:
    print_piece(None, "dropped")
    assert [read_piece(None, method, -1) for method in ("readline", "read", "read_bytes")] == ["", "", b""]
    with pytest.raises(ValueError, match="no fileno"):
        read_piece(io.StringIO(), "fileno", -1)


class Tty(io.StringIO):
    encoding = "ascii"  # type: ignore[assignment]

    def write(self, text: str) -> int:
        text.encode(self.encoding)
        return super().write(text)


def test_what_our_stream_cannot_show_is_shown_escaped(house: House) -> None:
    with house.connect() as conn, redirect_stdout(Tty()) as here, gw.redirected_stdio(conn):
        conn.execute("print('✓')")
    assert here.getvalue() == "\\u2713\n"


def test_two_sessions_at_once_see_their_own_output_and_others_are_undisturbed(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    both = threading.Barrier(3)
    seen: dict[str, list[tuple[str, Any]]] = {}

    class Ends:
        def __init__(self, name: str) -> None:
            self.seen = seen[name] = []

        def give(self, name: str, piece: str | bytes) -> None:
            self.seen.append((name, piece))

        def ask(self, method: str, size: int) -> str:
            return f"{method} {size}"

    def work(name: str) -> None:
        with house.connect() as conn, Redirected(conn, Ends(name)):
            # The second begins while the first prints, and the first ends while the second does.
            conn.eval("lambda name, wait: [(wait(), print(name, n)) for n in range(20)] and None")(name, both.wait)
            assert conn.eval("input()") == "readline -1"

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    with house.connect() as conn:
        for _ in range(20):
            both.wait(20)
            conn.execute("print('neither')")
    for thread in threads:
        thread.join()
    for name in "ab":
        assert "".join(piece for _, piece in seen[name]) == "".join(f"{name} {n}\n" for n in range(20))
    sys.stdout.write("the node itself\n")
    assert capsys.readouterr().out == "neither\n" * 20 + "the node itself\n"


def test_afterwards_the_far_side_is_as_it_was(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    with house.connect() as conn, house.connect() as other:
        before = [gw.obtain(repr(item)) for item in conn.eval(STREAMS)]
        with gw.redirected_stdio(conn):
            with gw.redirected_stdio(other):
                conn.execute("import sys\nwrite, flush = sys.stdout.write, sys.stdout.flush")
            conn.execute("print('1')")
            other.execute("print('not here')")
        conn.execute("print('2')\nwrite('3')\nflush()")
        with pytest.raises(ZeroDivisionError), gw.redirected_stdio(conn):
            conn.eval("1 / 0")
        assert [repr(item) for item in conn.eval(STREAMS)] == before


def test_a_thread_that_prints_after_the_end_prints_there(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    ends: Any = SimpleNamespace(give=lambda _name, piece: seen.append(piece), ask=None)
    with house.connect() as conn:
        conn.execute(
            "import threading\nmay, thread = threading.Event(), None\ndef late():\n    print('soon')\n    first.set()\n    may.wait()\n    print('late')\nfirst = threading.Event()"
        )
        with Redirected(conn, ends):
            conn.execute("thread = threading.Thread(target=late)\nthread.start()\nfirst.wait()")
        conn.execute("may.set()\nthread.join()")
    assert "".join(seen) == "soon\n"
    assert capsys.readouterr().out == "late\n"


def test_a_link_that_is_cut_restores_the_far_side(house: House) -> None:
    with house.connect() as other:
        before = [repr(item) for item in other.eval(STREAMS)]
        conn = house.connect()
        redirected = Redirected(conn, SimpleNamespace(give=print, ask=None))  # type: ignore[arg-type]
        redirected.__enter__()
        assert [repr(item) for item in other.eval(STREAMS)] != before
        sessions = [session for session in house.sessions() if session.path[0] == conn.path[0]]
        house.ask(lambda: [session.close() for session in sessions])
        house.until(lambda: type(sys.stdout).__name__ != "_Router")
        assert [repr(item) for item in other.eval(STREAMS)] == before
        with pytest.raises(gw.GatewayError):
            redirected.__exit__(None, None, None)


def test_a_process_that_is_killed_restores_the_far_side(house: House) -> None:
    client = f"""if True:
        import rpyc_gateway as gw, sys
        with gw.connect({house.url!r}, node="lab") as conn, gw.redirected_stdio(conn):
            conn.execute("print('begun')")
            sys.stdin.read()
    """
    with subprocess.Popen([sys.executable, "-c", client], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert type(sys.stdout).__name__ == "_Router"
        process.kill()
        house.until(lambda: type(sys.stdout).__name__ != "_Router")


def test_who_cannot_be_shown_anything_fails_where_it_prints(house: House) -> None:
    def give(_name: str, _piece: object) -> None:
        raise BrokenPipeError("nobody reads")

    ends: Any = SimpleNamespace(give=give, ask=None)
    with house.connect() as conn, pytest.raises(BrokenPipeError), Redirected(conn, ends):
        conn.execute("import itertools\nfor n in itertools.count():\n    print(n)")


def test_a_child_that_was_forked_prints_where_it_did(tmp_path: Any) -> None:
    """In processes of their own: this one has threads that a child would not have."""
    script = """if True:
        import rpyc_gateway as gw, sys
        with gw.connect("stdio:" + sys.executable + " -m rpyc_gateway stdio --serve classic") as conn, gw.redirected_stdio(conn):
            conn.execute('''if True:
                import os, sys
                child = os.fork()
                if not child:
                    os._exit(type(sys.stdout).__name__ == "_Router")
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            ''')
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr


def test_where_nothing_may_wait_it_is_refused_in_clear_words() -> None:
    async def redirect() -> None:
        outlets.redirect(print, input)

    with pytest.raises(RuntimeError, match="runs in the thread of trio"):
        trio.run(redirect)
    assert type(sys.stdout).__name__ != "_Router"


def test_served_code_that_redirects_another_node_has_its_output_where_its_own_goes(house: House) -> None:
    hop = "import rpyc_gateway as gw\nwith gw.connect({!r}, node='lab') as onward, gw.redirected_stdio(onward):\n    print('near')\n    onward.execute('print(6 * 7)')\n"
    with house.connect() as conn, redirect_stdout(io.StringIO()) as here, gw.redirected_stdio(conn):
        conn.execute(hop.format(house.url))
    assert here.getvalue() == "near\n42\n"


def test_each_face_says_which_block_it_takes(house: House) -> None:
    with house.connect() as conn, pytest.raises(TypeError, match="`with` redirects"):
        trio.run(gw.redirected_stdio(conn).__aenter__)

    async def in_trio() -> None:
        async with gw.open_session(house.url, node="lab") as lab:
            with pytest.raises(TypeError, match="`async with` redirects"):
                gw.redirected_stdio(lab).__enter__()

    trio.run(in_trio)


def test_a_block_is_entered_once_at_a_time(house: House) -> None:
    with pytest.raises(TypeError, match=r"a session .* is needed here, not 5"):
        gw.redirected_stdio(5)
    with house.connect() as conn:
        block = gw.redirected_stdio(conn)
        with block, pytest.raises(RuntimeError, match="another one is another gw"):
            block.__enter__()
        with block:
            conn.execute("print('again')")


def test_a_board_is_refused_in_clear_words() -> None:
    board: Any = SimpleNamespace(eval=lambda _text: "micropython", path=("hq", "pico"))
    with pytest.raises(TypeError, match="pico is a board, and its streams cannot be redirected"):
        gw.redirected_stdio(board).__enter__()


@contextmanager
def bare_python(interpreter: str = sys.executable) -> Iterator[gw.BlockingSession]:
    with gw.connect(f"stdio:?python=agent {interpreter}") as conn:
        yield conn


@pytest.mark.parametrize("interpreter", EVERY)
def test_a_bare_python_prints_here_too(interpreter: str) -> None:
    with bare_python(interpreter) as conn:
        with redirect_stdout(io.StringIO()) as here, gw.redirected_stdio(conn):
            conn.execute("print('a', 'b')\nimport sys\nsys.stdout.buffer.write(b'bytes')\nprint('é', end='')")
            assert here.getvalue() == "a b\nbytes"
            conn.execute("print('!', flush=True)")
            assert here.getvalue() == "a b\nbytesé!\n"
            conn.execute(
                "import threading; thread = threading.Thread(target=print, args=('theirs',)); thread.start(); thread.join()"
            )
            conn.execute("print('rest', end='')")
        assert here.getvalue() == "a b\nbytesé!\ntheirs\nrest"
        assert "TextIOWrapper" in conn.eval("type(__import__('sys').stdout).__name__")


def test_input_of_a_bare_python_is_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("me\n"))
    with bare_python() as conn, redirect_stdout(io.StringIO()) as here, gw.redirected_stdio(conn):
        assert conn.eval("input('who? ')") == "me"
    assert here.getvalue() == "who? "


def test_a_bare_python_goes_with_its_client() -> None:
    with bare_python() as conn, redirect_stdout(io.StringIO()):
        number = conn.modules.os.getpid()
        with pytest.raises(gw.LinkLost), gw.redirected_stdio(conn):
            conn.eval(f"print('x') or __import__('os').kill({number}, {signal.SIGKILL:d})")
