"""What eval and exec run on the far side, run here: output apart and by lines, exceptions told, others undisturbed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from rpyc_gateway.cli import remote


@pytest.fixture(autouse=True)
def _own_streams_back(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = streams


def run(source: str, mode: str = "exec") -> tuple[int, str, str]:
    """What a script exits with, prints, and says on standard error."""
    out: list[str] = []
    err: list[str] = []
    status = remote.run(source.encode(), "script.py", mode, out.append, err.append)
    return status, "".join(out), "".join(err)


def test_output_and_errors_come_apart(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run("import sys\nprint('a', 'b')\nprint('no', file=sys.stderr)\nsys.stdout.write('end')")
    assert (status, out, err) == (0, "a b\nend", "no\n")
    assert capsys.readouterr() == ("", "")


def test_an_expression_prints_its_value() -> None:
    assert run("[1] + [2]", "eval") == (0, "[1, 2]\n", "")
    assert run("'text'", "eval") == (0, "text\n", "")


def test_an_exception_is_told_with_the_lines_of_the_script() -> None:
    status, _, told = run("def f():\n    return 1 / 0\nf()")
    assert status == 1
    assert told.startswith('Traceback (most recent call last):\n  File "script.py", line 3, in <module>\n    f()\n')
    assert told.endswith("ZeroDivisionError: division by zero\n")
    assert "return 1 / 0" in told


def test_a_script_that_cannot_be_read_is_told_like_one_that_fails() -> None:
    status, _, err = run("x = = 1")
    assert status == 1
    assert "SyntaxError" in err


@pytest.mark.parametrize(
    ("leave", "status"), [("exit()", 0), ("sys.exit(3)", 3), ("sys.exit(256 + 7)", 7), ("sys.exit('no')", 1)]
)
def test_sys_exit_ends_the_script_not_the_node(leave: str, status: int) -> None:
    code, _, err = run(f"import sys\n{leave}")
    assert code == status
    assert err == ("no\n" if "no" in leave else "")


def test_each_script_has_names_of_its_own() -> None:
    assert run("x = 1\nassert __name__ == '__main__'")[0] == 0
    assert run("x")[0] == 1


def test_two_scripts_at_once_each_print_to_their_own_caller(capsys: pytest.CaptureFixture[str]) -> None:
    both = threading.Barrier(2)
    results: dict[str, tuple[int, str, str]] = {}
    # The second begins while the first prints, and the first ends while the second does.
    source = "import builtins\nfor n in range(20):\n    builtins.both.wait()\n    print(NAME, n)"

    def script(name: str) -> None:
        results[name] = run(source.replace("NAME", repr(name)))

    import builtins

    builtins.both = both  # type: ignore[attr-defined]
    try:
        threads = [threading.Thread(target=script, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        del builtins.both  # type: ignore[attr-defined]
    for name in "ab":
        assert results[name] == (0, "".join(f"{name} {n}\n" for n in range(20)), "")
    sys.stdout.write("the node itself\n")
    assert capsys.readouterr().out == "the node itself\n"


def test_a_caller_that_is_gone_ends_the_script_and_nothing_else() -> None:
    def gone(_text: str) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        remote.run(b"print('x')", "script.py", "exec", gone, gone)
    assert run("print('y')") == (0, "y\n", "")


def test_what_is_printed_while_a_piece_is_on_its_way_gathers_to_one() -> None:
    sent: list[str] = []
    under_way, arrived = threading.Event(), threading.Event()

    def slow(text: str) -> None:
        sent.append(text)
        under_way.set()
        arrived.wait(10)

    with remote._Sender() as sender:
        sender.put(slow, "1")
        under_way.wait(10)
        for number in range(2, 10):
            sender.put(slow, str(number))
        arrived.set()
    assert sent == ["1", "23456789"]


def test_the_two_streams_keep_their_order() -> None:
    sent: list[str] = []

    def out(text: str) -> None:
        sent.extend(f"out {letter}" for letter in text)

    def err(text: str) -> None:
        sent.extend(f"err {letter}" for letter in text)

    with remote._Sender() as sender:
        for letter, write in zip("abcdef", [out, err, err, out, out, err], strict=True):
            sender.put(write, letter)
    assert sent == ["out a", "err b", "err c", "out d", "out e", "err f"]


def test_who_prints_faster_than_it_is_carried_away_waits() -> None:
    waits, carried_on = threading.Event(), threading.Event()
    total = 0

    def slow(text: str) -> None:
        nonlocal total
        carried_on.wait(10)
        total += len(text)

    def put_much() -> None:
        for _ in range(100):
            sender.put(slow, "x" * 8192)

    with remote._Sender() as sender:
        printer = threading.Thread(target=put_much)
        wait = sender._changed.wait

        def seen() -> bool:
            if threading.current_thread() is printer:
                waits.set()
            return wait()

        sender._changed.wait = seen  # type: ignore[method-assign,assignment]
        printer.start()
        assert waits.wait(10)
        assert sender._size == 65536 + 8192
        carried_on.set()
        printer.join()
    assert total == 100 * 8192
