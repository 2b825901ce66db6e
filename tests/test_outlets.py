"""What stands for the streams where they are redirected: pieces gather, keep their order, wait, fail and are interrupted."""

from __future__ import annotations

import ast
import gc
import io
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

import rpyc_gateway.calls  # noqa: F401  # how a whole node knows its sessions
from rpyc_gateway import outlets
from rpyc_gateway.outlets import BUFFER, _Direct, _Sender, redirect

Pieces = list[tuple[str, Any]]


def test_what_is_printed_while_a_piece_is_on_its_way_gathers_to_one() -> None:
    sent: Pieces = []
    under_way, arrived = threading.Event(), threading.Event()

    def slow(name: str, piece: object) -> None:
        sent.append((name, piece))
        under_way.set()
        arrived.wait(10)

    sender = _Sender(slow)
    sender.put("stdout", "1")
    under_way.wait(10)
    for number in range(2, 10):
        sender.put("stdout", str(number))
    arrived.set()
    sender.close()
    assert sent == [("stdout", "1"), ("stdout", "23456789")]
    assert not sender.put("stdout", "late")


def test_streams_and_kinds_keep_their_order() -> None:
    sent: Pieces = []
    sender = _Sender(lambda name, piece: sent.extend((name, piece[at : at + 1]) for at in range(len(piece))))
    given: Pieces = [("out", "a"), ("err", "b"), ("err", b"c"), ("err", b"d"), ("out", "e"), ("out", "f")]
    for name, piece in given:
        sender.put(name, piece)
    sender.close()
    assert sent == given


def test_who_prints_faster_than_it_is_carried_away_waits() -> None:
    waits, carried_on = threading.Event(), threading.Event()
    total = 0

    def slow(_name: str, piece: str) -> None:
        nonlocal total
        carried_on.wait(10)
        total += len(piece)

    sender = _Sender(slow)
    wait = sender._changed.wait

    def seen(timeout: float | None = None) -> bool:
        if threading.current_thread() is printer:
            waits.set()
        return wait(timeout)

    sender._changed.wait = seen  # type: ignore[method-assign]
    printer = threading.Thread(target=lambda: [sender.put("stdout", "x" * 8192) for _ in range(100)])
    printer.start()
    assert waits.wait(10)
    assert sender._size == BUFFER + 8192
    carried_on.set()
    printer.join()
    sender.close()
    assert total == 100 * 8192


def test_what_kept_a_piece_from_arriving_is_told_to_who_prints_next_and_at_the_end() -> None:
    def gone(_name: str, _piece: object) -> None:
        raise ConnectionError("gone")

    sender = _Sender(gone)
    sender.put("stdout", "1")
    sender.drain()
    with pytest.raises(ConnectionError):
        sender.put("stdout", "2")
    with pytest.raises(ConnectionError):
        sender.close()


def test_who_waits_until_it_may_print_is_interrupted() -> None:
    carried_on, ended = threading.Event(), threading.Event()

    def print_for_ever() -> None:
        try:
            while True:
                sender.put("stdout", "x" * 8192)
        except KeyboardInterrupt:
            ended.set()

    sender = _Sender(lambda _name, _piece: carried_on.wait(10))
    printer = threading.Thread(target=print_for_ever)
    printer.start()
    sender.interrupt(printer.ident or 0)
    assert ended.wait(10)
    assert not sender.spare(printer.ident or 0), "it was raised"
    carried_on.set()
    sender.close()


def test_an_interrupt_can_be_taken_back() -> None:
    sender = _Sender(lambda _name, _piece: None)
    me = threading.get_ident()
    sender.interrupt(me)
    assert sender.interrupts(me)
    assert sender.spare(me)
    assert not sender.interrupts(me)
    sender.put("stdout", "x")
    sender.close()


def test_where_only_one_thread_may_call_it_goes_line_by_line() -> None:
    sent: Pieces = []
    sender = _Direct(lambda name, piece: sent.append((name, piece)))
    for piece in ("a", " ", "b", "\n", "c"):
        sender.put("stdout", piece)
    assert sent == [("stdout", "a b\n")]
    sender.put("stderr", "d")
    sender.put("stdout", b"e")
    assert sent[1:] == [("stdout", "c"), ("stderr", "d"), ("stdout", b"e")]
    sender.put("stdout", "f")
    sender.close()
    assert sent[4:] == [("stdout", "f")]


def test_what_other_threads_print_there_is_taken_along() -> None:
    sent: Pieces = []
    taken: list[bool] = []
    sender = _Direct(lambda name, piece: sent.append((name, piece)))

    def elsewhere() -> None:
        sender.put("stdout", "theirs\n")
        sender.drain()
        taken.extend(sender.put("stdout", "x" * BUFFER) for _ in range(2))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert (sent, taken) == ([], [True, False])
    sender.put("stdout", "mine\n")
    assert sent == [("stdout", f"theirs\n{'x' * BUFFER}mine\n")]


@pytest.fixture
def sent() -> Pieces:
    return []


def test_it_looks_like_a_stream(sent: Pieces) -> None:
    handle = redirect(lambda name, piece: sent.append((name, piece)), lambda method, size: f"{method} {size}\n")
    try:
        out = sys.stdout
        assert (out.isatty(), out.writable(), out.encoding, out.name, out.closed) == (
            False,
            True,
            "utf-8",
            "<stdout>",
            False,
        )
        with pytest.raises(io.UnsupportedOperation):
            out.fileno()
        with pytest.raises(TypeError, match="must be str, not bytes"):
            out.write(b"x")  # type: ignore[arg-type]
        out.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
        out.close()
        out.writelines(["a", "b\n"])
        out.buffer.write(memoryview(b"c"))
        with out as same:
            same.write("d\n")
        with pytest.raises(KeyError):
            raise KeyError(sys.stdin.readline(), next(iter(sys.stdin)), sys.stdin.read(5))
    finally:
        handle.close()
    assert sent == [("stdout", "ab\n"), ("stdout", b"c"), ("stdout", "d\n")]


def test_other_threads_and_streams_that_were_not_there_are_left_alone(
    sent: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    seen: list[object] = []
    may, thread = threading.Event(), threading.Thread(target=lambda: elsewhere())

    def elsewhere() -> None:
        may.wait(10)
        sys.stderr.write("dropped")
        seen.append(sys.stdout.write("not here\n"))

    thread.start()
    handle = redirect(lambda name, piece: sent.append((name, piece)), None)
    may.set()
    thread.join()
    handle.close()
    assert (sent, seen, sys.stderr) == ([], [9], None)


def test_who_has_replaced_a_stream_meanwhile_keeps_it(sent: Pieces, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdout
    handle = redirect(lambda name, piece: sent.append((name, piece)), None)
    router, own = sys.stdout, io.StringIO()
    monkeypatch.setattr(sys, "stdout", own)
    handle.close()
    assert sys.stdout is own
    router.write("to whom it was before\n")
    assert not sent
    monkeypatch.undo()
    sys.stdout = before


def test_it_is_for_any_python_that_may_be_there() -> None:
    for name in ("outlets.py", "console.py"):
        ast.parse(Path(outlets.__file__).with_name(name).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("first", ["asks", "is told"])
def test_a_thread_that_asks_hears_of_ctrl_c_once(first: str) -> None:
    sender = _Sender(lambda *_: None)
    me = threading.get_ident()
    answers: list[Any] = [..., "typed\n"]

    def told() -> None:
        sender.interrupt(me)

    def ask(*_: object) -> Any:
        if first == "is told":
            told()
        return answers.pop(0)

    inlet = outlets._Inlet(sender, ask)
    with pytest.raises(KeyboardInterrupt):
        inlet.readline()
    if first == "asks":
        told()
    first = ""
    assert sender.put("stdout", "goes on")
    assert inlet.readline() == "typed\n"
    answers += [..., "more\n"]
    told()
    with pytest.raises(KeyboardInterrupt):
        sender.put("stdout", "not this")
    assert inlet.readline() == "more\n"  # it knew of that one
    sender.forget(me)
    sender.close()


def test_what_print_has_taken_lives_until_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    """print() of CPython before 3.13.3 takes sys.stdout and does not hold it: it would end in memory that is something else by then."""
    redirection = redirect(lambda *_: None, None)
    there = weakref.ref(sys.stdout)

    class Closing:
        def __str__(self) -> str:
            redirection.close()
            gc.collect()
            assert there() is not None
            return "closed"

    print(Closing(), "and on")  # noqa: T201
    assert capsys.readouterr().out.endswith("and on\n")
    again = redirect(lambda *_: None, None)
    assert sys.stdout is there()  # so there is never more than one of them
    again.close()
    assert sys.stdout is not there()
