"""A namespace for somebody at a prompt: what a statement is worth, what is told of errors, what is interrupted."""

from __future__ import annotations

import itertools
import linecache
import subprocess
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from rpyc_gateway import console
from rpyc_gateway.console import Console, open_console
from rpyc_gateway.service import ClassicService
from tests.device.interpreters import EVERY

pytestmark = pytest.mark.usefixtures("untraced")  # much of it is interrupted

turns = itertools.count(1)
Run = Callable[..., tuple[str, str]]


class Handle:
    """What the console knows of the redirection."""

    def __init__(self) -> None:
        self._threads: set[int] = set()
        self.interrupt = self._threads.add
        self.interrupts = self._threads.__contains__

    def spare(self, thread: int) -> bool:
        was_there = thread in self._threads
        self._threads.discard(thread)
        return was_there

    def drain(self) -> None:
        pass

    def forget(self, thread: int) -> None:
        pass


@pytest.fixture
def here() -> Console:
    return open_console(Handle(), (("x", [1, 2]),), None)


@pytest.fixture
def run(here: Console, capsys: pytest.CaptureFixture[str]) -> Run:
    """What statements print, and say on standard error."""

    def run(*sources: str) -> tuple[str, str]:
        for source in sources:
            assert here.run(next(turns), source) == ()
        return tuple(capsys.readouterr())  # type: ignore[return-value]

    return run


def test_expressions_are_shown_as_pythons_prompt_does(run: Run) -> None:
    assert run("6 * 7", "_ + 1", "None", "x; 'a'; _") == ("42\n43\n[1, 2]\n'a'\n'a'\n", "")
    assert run("for i in range(2): i\n") == ("0\n1\n", "")
    assert run("def f():\n  1\n  return 2\n", "f()", "class C:\n  3\n", "(lambda: 4)()") == ("2\n4\n", "")
    assert run("'docstring'") == ("'docstring'\n", "")
    assert run("__name__") == ("'__console__'\n", "")


def test_what_is_defined_stays_and_nothing_of_ours_is_among_it(run: Run, here: Console) -> None:
    run("y = 1", "import os")
    assert run("y; sorted(n for n in dir() if not n.startswith('__'))") == (
        "1\n['_', 'os', 'x', 'y']\n".replace("'_', ", "'_', '_gateway_show', "),
        "",
    )
    assert here.names("", "o") == ("os", "object", "oct", "open", "ord")
    assert here.names("os.path", "joi") == ("join",)
    assert here.names("nowhere", "") == ()
    assert here.names("1 /", "") == ()


def test_future_imports_stay(run: Run) -> None:
    run("from __future__ import annotations", "def f(a: nowhere): pass\n")
    assert run("f.__annotations__") == ("{'a': 'nowhere'}\n", "")


def test_errors_are_told_with_their_lines_also_those_of_earlier_statements(run: Run) -> None:
    run("def f():\n  return 1 / 0\n")
    out, told = run("f()")
    lines = [line for line in told.splitlines() if set(line) - set(" ~^")]
    assert (out, lines[0], lines[2], lines[4:]) == (
        "",
        "Traceback (most recent call last):",
        "    f()",
        ["    return 1 / 0", "ZeroDivisionError: division by zero"],
    )
    assert len(lines) == 6
    assert run("def (\n")[1].splitlines()[-1] == "SyntaxError: invalid syntax"
    assert "Traceback" not in run("def (\n")[1]
    assert run("x = '\0'")[1].splitlines()[-1].endswith("null bytes")
    assert run("print(_, f)")[1].startswith("Traceback"), "an error leaves no value"
    assert run("class E(BaseException): pass\nraise E(1)")[1].splitlines()[-1].endswith("E: 1")


def test_the_last_error_is_there_for_a_debugger(run: Run) -> None:
    run("1 / 0")
    assert run("import sys; sys.last_value; sys.last_traceback.tb_frame.f_code.co_name")[0].splitlines() == [
        "ZeroDivisionError('division by zero')",
        "'<module>'",
    ]


def test_hooks_of_the_user_are_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "displayhook", lambda value: sys.stdout.write(f"shown {value}\n"))
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: sys.stdout.write(f"told {kind.__name__}\n"))
    assert run("1", "1 / 0") == ("shown 1\ntold ZeroDivisionError\n", "")


@pytest.mark.parametrize(("given", "code"), [("", None), ("7", 7), ("'no'", "no"), ("[1]", "[1]")])
def test_exit_is_told(here: Console, given: str, code: object) -> None:
    assert here.run(1, f"raise SystemExit({given})") == (code,)


def test_its_lines_go_with_it() -> None:
    before = set(linecache.cache)
    here, other = open_console(Handle(), (), None), open_console(Handle(), (), None)
    here.run(1, "x = 1")
    here.script(2, b"x = 1", "a script.py", "exec")
    assert len(set(linecache.cache) - before) == 2
    other.script(1, b"y = 1", "a script.py", "exec")
    del here
    assert set(linecache.cache) - before == {"a script.py"}
    del other
    assert set(linecache.cache) == before


def script(source: str, mode: str = "exec") -> int:
    return open_console(Handle(), (), None).script(1, source.encode(), "script.py", mode)


def test_a_script_is_the_only_thing_in_its_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("import sys\nprint('a', __name__)\nprint('no', file=sys.stderr)") == 0
    assert capsys.readouterr() == ("a __main__\n", "no\n")
    assert script("[1] + ['b']", "eval") == 0
    assert capsys.readouterr().out == "[1, 'b']\n"
    assert script("x = 1") == 0
    assert script("x") == 1


def test_what_a_script_raises_is_told_with_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("def f():\n    return 1 / 0\nf()") == 1
    told = capsys.readouterr().err
    assert told.startswith('Traceback (most recent call last):\n  File "script.py", line 3, in <module>\n    f()\n')
    assert "return 1 / 0" in told
    assert told.endswith("ZeroDivisionError: division by zero\n")
    assert script("x = = 1") == 1
    assert "SyntaxError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("leave", "status"),
    [
        ("sys.exit()", 0),
        ("sys.exit(3)", 3),
        ("sys.exit(256 + 7)", 7),
        ("sys.exit('no')", 1),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_sys_exit_ends_a_script_and_nothing_else(leave: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert script(f"import sys\n{leave}") == status
    assert capsys.readouterr().err == ("no\n" if "'no'" in leave else "")


class Somebody:
    """Who runs statements, and somebody else who presses Ctrl-C."""

    def __init__(self) -> None:
        self.presses: SimpleQueue[int] = SimpleQueue()
        self.handle = Handle()
        self.begun = threading.Event()
        self.console = open_console(
            self.handle, (("begun", self.begun), ("goes_on", threading.Event())), self.presses.get
        )

    def interrupt(self, source: str) -> None:
        """Run a statement, which says when it has begun, and interrupt it."""
        thread, turn = self.start(source)
        self.presses.put(turn)
        thread.join(10)
        assert not thread.is_alive()

    def start(self, source: str) -> tuple[threading.Thread, int]:
        self.begun.clear()
        turn = next(turns)
        thread = threading.Thread(target=self.console.run, args=(turn, source))
        thread.start()
        assert self.begun.wait(10)
        return thread, turn


def test_a_statement_that_does_not_end_is_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    who = Somebody()
    who.interrupt("begun.set()\nwhile True: pass")
    assert capsys.readouterr().err.splitlines()[-1] == "KeyboardInterrupt"
    who.interrupt("class R:\n  def __repr__(self):\n    begun.set()\n    while True: pass\nR()")
    assert capsys.readouterr().err.splitlines()[-1] == "KeyboardInterrupt"
    assert who.console.run(next(turns), "print('goes on')") == ()
    assert capsys.readouterr().out == "goes on\n"
    who.presses.put(0)


def test_what_catches_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    who = Somebody()
    who.interrupt("try:\n  begun.set()\n  while True: pass\nexcept KeyboardInterrupt: print('caught')\nprint('end')")
    assert capsys.readouterr() == ("caught\nend\n", "")
    who.presses.put(0)


def test_a_key_that_comes_late_interrupts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    who = Somebody()
    for turn in range(1, 100):
        assert who.console.run(turn, "1 + 1;") == ()
        who.presses.put(turn)
    later = itertools.count(100)
    while not who.presses.empty():
        assert who.console.run(next(later), "pass") == ()
    assert capsys.readouterr() == ("2\n" * 99, "")
    who.presses.put(0)


def test_a_key_that_comes_early_interrupts_what_it_was_meant_for(capsys: pytest.CaptureFixture[str]) -> None:
    here = open_console(Handle(), (), None)
    here._interrupt(2)
    assert here.run(1, "'one'") == ()
    assert here.run(2, "'two'") == ()
    assert here.run(3, "'three'") == ()
    assert capsys.readouterr() == ("'one'\n'three'\n", "KeyboardInterrupt\n")


def test_one_that_was_left_alone_is_interrupted_when_it_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    who = Somebody()
    stuck = threading.Event()
    who.console._space["stuck"] = stuck
    left_alone, turn = who.start("begun.set()\nstuck.wait()")
    who.presses.put(turn)
    assert who.console.run(next(turns), "'beside it'") == ()
    who.interrupt("begun.set()\nwhile True: pass")
    stuck.set()
    left_alone.join(10)
    out, err = capsys.readouterr()
    assert (out, err.count("\nKeyboardInterrupt\n")) == ("'beside it'\n", 2)
    who.presses.put(0)


def test_when_nobody_is_there_any_more_what_runs_is_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    begun, lost = threading.Event(), threading.Event()

    def wait() -> int:
        lost.wait(10)
        raise ConnectionError("gone")

    here = open_console(Handle(), (("begun", begun),), wait)
    thread = threading.Thread(target=here.run, args=(1, "begun.set()\nwhile True: pass"))
    thread.start()
    assert begun.wait(10)
    lost.set()
    thread.join(10)
    assert not thread.is_alive()
    assert capsys.readouterr().err.splitlines()[-1] == "KeyboardInterrupt"


def test_our_own_code_is_not_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As if a statement was in the middle of a call to another node, and then in its own code again."""
    who = Somebody()
    looked = threading.Event()
    inside: dict[str, Any] = {"__name__": "rpyc_gateway.somewhere", "begun": who.begun, "looked": looked}
    exec("def wait():\n  begun.set()\n  while not looked.is_set(): pass", inside)
    who.console._space["wait"] = inside["wait"]
    sleep = console.time.sleep
    monkeypatch.setattr(console.time, "sleep", lambda seconds: (looked.set(), sleep(seconds)))
    who.interrupt("wait()\nprint('came back whole')\nwhile True: pass")
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("came back whole\n", "KeyboardInterrupt")
    who.presses.put(0)


def test_a_function_that_a_session_has_defined_is_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    """By `conn.execute`, in the namespace that is named after us."""
    who = Somebody()
    namespace = ClassicService().namespace
    exec("def wait(begun):\n  begun.set()\n  while True: pass", namespace)
    who.console._space["wait"] = namespace["wait"]
    who.interrupt("wait(begun)")
    assert capsys.readouterr().err.splitlines()[-1] == "KeyboardInterrupt"
    who.presses.put(0)


EVERYWHERE = """
import pathlib, sys, threading
space = {"__name__": "rpyc_gateway.console"}
exec(compile(pathlib.Path(sys.argv[1]).read_text(), "console.py", "exec"), space)

class Handle:
    def __init__(self): self.threads = set()
    def interrupt(self, thread): self.threads.add(thread)
    def interrupts(self, thread): return thread in self.threads
    def drain(self): pass
    def forget(self, thread): pass
    def spare(self, thread):
        there = thread in self.threads
        self.threads.discard(thread)
        return there

if sys.argv[2] == "traced":  # as by pdb
    sys.settrace(lambda *_: None)

begun, turns = threading.Event(), iter((1, 0))
here = space["open_console"](Handle(), (("begun", begun),), lambda: (begun.wait(), next(turns))[1])
here.run(1, "begun.set()\\nwhile True: pass")
here.run(2, "for i in range(2): i")

sys.settrace(None)
gate, spared = threading.Lock(), []
def wait():
    with gate:
        spared.append(True)
with gate:
    other = threading.Thread(target=wait)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)  # the other does nothing meanwhile
    space["raise_in"](other.ident)
    space["take_back"](other.ident)
    sys.setswitchinterval(interval)
other.join()
assert spared
sys.exit(here.script(3, b"def f(): return 1 / 0\\nf()", "script.py", "exec"))
"""


@pytest.mark.parametrize("how", ["alone", "traced"])
@pytest.mark.parametrize("interpreter", EVERY)
def test_it_is_the_same_under_each_python(interpreter: str, how: str) -> None:
    done = subprocess.run(
        [interpreter, "-I", "-W", "error", "-c", EVERYWHERE, console.__file__, how],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if set(line) - set(" ~^")]
    assert (done.returncode, done.stdout) == (1, "0\n1\n")
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<console 0>", line 2, in <module>',
        "    while True: pass",
        "KeyboardInterrupt",
        "Traceback (most recent call last):",
        '  File "script.py", line 2, in <module>',
        "    f()",
        '  File "script.py", line 1, in f',
        "    def f(): return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


TRACED = """
threading.settrace(lambda *_: None)
sys.settrace(lambda *_: None)
begun, interrupted, turns = threading.Event(), threading.Event(), iter((3,))
def wait():
    begun.wait()
    turn = next(turns, 0)
    if not turn:
        interrupted.set()
    return turn
here = space["open_console"](Handle(), (("begun", begun), ("interrupted", interrupted)), wait)
here.run(1, "(lambda: 1)()")
here.run(2, "(lambda: 2)()")
here.run(3, "begun.set()\\nhere = interrupted.wait()\\n'went on'")
"""


@pytest.mark.parametrize("interpreter", EVERY)
def test_where_all_threads_are_traced_it_works_and_is_interrupted_where_that_can_be(interpreter: str) -> None:
    """As by coverage. Python 3.11 would hang, in all its threads."""
    done = subprocess.run(
        [interpreter, "-I", "-c", EVERYWHERE.partition("\nif sys.argv")[0] + TRACED, console.__file__],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    goes_on = interpreter.endswith("3.11")
    assert done.stdout.split("\n") == ["1", "2", *(["'went on'"] if goes_on else []), ""]
    assert done.stderr.splitlines()[-1:] == ([] if goes_on else ["KeyboardInterrupt"])
