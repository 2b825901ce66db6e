"""`interact`: somebody at a prompt here, whose statements run on the far side."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from queue import SimpleQueue
from types import EllipsisType, FrameType, TracebackType
from typing import Any, Self

from rpyc_gateway.async_calls import async_
from rpyc_gateway.deadlines import timeout
from rpyc_gateway.errors import GatewayError, TimedOut
from rpyc_gateway.faces import check_session
from rpyc_gateway.prompt import line_under_edit, read_block, wake_main_thread, with_history
from rpyc_gateway.redirection import Redirected, far_module, is_node, print_piece, read_piece
from rpyc_gateway.trio_face import TrioFace

__all__ = ["Dialogue", "interact"]

LOOK = 0.2  # seconds between two looks whether the session is over, while somebody thinks
SETTLING = 2.0  # seconds that what was interrupted may take until it is left alone
THINKING = 3.0  # seconds that one who presses TAB waits
ERASE = "\r\x1b[K"


def interact(conn: Any, namespace: Mapping[str, Any] | None = None) -> None:
    """Type Python that runs on the far side of a blocking session with `classic`, until Ctrl-D or exit(). Ctrl-C interrupts what runs there.

    The names there are those of `namespace`, whose objects stay here, and `conn` (not under a bare Python, which takes plain data and functions); what else is defined goes with the dialogue. It is printed here and read here,
    as in `redirected_stdio`. TAB completes names of the far side where this Python has readline.

    Raises LinkLost and SessionClosed, also while somebody thinks; TypeError for a board, for a session of trio code, and for what is none.
    """
    if isinstance(conn, TrioFace):
        raise TypeError(
            "interact waits for people, and this is a session of trio code: use it in a thread, with gw.connect"
        )
    check_session(conn)
    known = {"conn": conn} if is_node(conn) else {}  # a bare Python takes plain data and functions only
    with Dialogue(conn, Terminal(), {**known, **(namespace or {})}) as dialogue:
        print(f"{dialogue.about}; Ctrl-C interrupts, Ctrl-D leaves")
        dialogue.talk()


class Dialogue:
    """A console on the far side, and this process's streams for it. To be used in the main thread, where Ctrl-C arrives; elsewhere there is none."""

    def __init__(self, conn: Any, terminal: Terminal, namespace: Mapping[str, Any] | None = None) -> None:
        self._conn = conn
        self._terminal = terminal
        self._namespace = namespace or {}
        self._undo = ExitStack()
        self._presses: SimpleQueue[int] = SimpleQueue()  # turns that the far side is to interrupt: 0 is the end
        self._lock = threading.Lock()
        self._turn = 0  # the number of the statement that runs; 0 is none
        self._turns = 0
        self._over = threading.Event()
        self._console: Any = None
        self.about = ""
        """Which Python is there, and where."""

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            redirected = undo.enter_context(Redirected(self._conn, self._terminal))
            undo.callback(self._presses.put, 0)
            undo.callback(self._over.set)
            self._is_node = is_node(self._conn)
            wait = self._presses.get if self._is_node else None
            make = self._conn.eval(far_module("console.py")).open_console
            self._console = make(redirected.handle, tuple(self._namespace.items()), wait)
            self.about = f"{self._console.about()} on {self._conn.path[-1]}"
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._console = None
        self._undo.__exit__(kind, error, traceback)

    def talk(self) -> int | str | None:
        """Read and run statements until there are no more; what SystemExit was given there."""
        threading.Thread(target=self._look_out, name="rpyc-gateway lookout", daemon=True).start()
        with with_history(self._names):
            while True:
                try:
                    source = read_block(self._read)
                    code = self.run(source) if source.strip() else ()
                except EOFError:
                    print()
                    return None
                except KeyboardInterrupt:
                    print("\nKeyboardInterrupt", file=sys.stderr)
                    continue
                if code:
                    return code[0]  # type: ignore[no-any-return]

    def run(self, source: str) -> tuple[Any, ...]:
        """Run statements there: () as a rule, (code,) if they have raised SystemExit. Ctrl-C is for them; they may go on all the same, which is told."""
        try:
            with self._heard_by_far_side():
                return self._call(self._console.run, self._turns, source)  # type: ignore[no-any-return]
        except KeyboardInterrupt:
            if self._is_node:
                print(
                    "\nKeyboardInterrupt; it has not ended there yet, and the next statement runs beside it",
                    file=sys.stderr,
                )
                return ()
            raise

    def script(self, source: bytes, filename: str, mode: str) -> int:
        """Run a script there, or of an expression (`mode` "eval") print its value; the exit code."""
        with self._heard_by_far_side():
            return int(self._call(self._console.script, self._turns, source, filename, mode))

    def _call(self, function: Any, *args: Any) -> Any:
        """Call it there. What it reads is read in this thread: the session of a whole node sees to that."""
        if self._is_node:
            return function(*args)
        result = async_(function)(*args)
        with self._terminal.reading_for_others() as asked:
            result.add_callback(lambda _result: asked.put(None))
            try:
                while (read := asked.get()) is not None:
                    read()
            except KeyboardInterrupt:
                result.cancel()
                with suppress(TimedOut), timeout(SETTLING):
                    self._console.about()  # when that is answered, what was interrupted has ended
                raise
        return result.value

    def _names(self, owner: str, begun: str) -> Sequence[str]:
        try:
            with timeout(THINKING):
                return self._console.names(owner, begun)  # type: ignore[no-any-return]
        except Exception:  # noqa: BLE001 - readline shows none; the next line tells it
            return ()

    # -- at the prompt --------------------------------------------------------------------------------------------------

    def _read(self, prompt: str) -> str:
        self._terminal.prompt = lambda: prompt + line_under_edit()
        try:
            self._check()
            return input(prompt)
        except KeyboardInterrupt:
            self._check()
            raise
        finally:
            self._terminal.prompt = None

    def _check(self) -> None:
        """Raise why the session is over, if it is."""
        if self._conn.closed:
            try:
                self._conn.ping()
            except GatewayError:
                print(file=sys.stderr)
                raise

    def _look_out(self) -> None:
        while not self._over.wait(LOOK):
            if self._conn.closed and self._terminal.prompt is not None:
                wake_main_thread()

    # -- Ctrl-C -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _heard_by_far_side(self) -> Iterator[None]:
        """In the body Ctrl-C interrupts what runs there; pressed again, or when that has not ended soon, it is KeyboardInterrupt here."""
        self._turns += 1
        if threading.current_thread() is not threading.main_thread() or not self._is_node:
            yield
            return
        self._turn, self._terminal.pressed = self._turns, False
        before = signal.signal(signal.SIGINT, self._press)
        try:
            try:
                yield
            finally:
                with self._lock:
                    self._turn, self._terminal.pressed = 0, False
        finally:
            signal.signal(signal.SIGINT, before)

    def _press(self, _number: int, _frame: FrameType | None) -> None:
        if self._terminal.pressed or self._terminal.reading:
            raise KeyboardInterrupt
        self._terminal.pressed = True
        self._presses.put(self._turn)
        timer = threading.Timer(SETTLING, self._leave_alone, (self._turn,))
        timer.daemon = True
        timer.start()

    def _leave_alone(self, turn: int) -> None:
        with self._lock:
            if self._turn == turn and self._terminal.pressed:
                wake_main_thread()


class Terminal:
    """The streams of this process, as ends for those of the far side. What comes while a line is typed is shown above it."""

    ended: OSError | None = None
    """Why nobody reads our output any more: printing fails there then, and what is said about that there is not worth printing."""
    reading = False
    """Whether somebody is asked something by the far side."""
    pressed = False
    """Whether Ctrl-C was, and the far side is being told: what asks now may not have heard of it yet."""

    def __init__(self) -> None:
        self._context = copy_context()
        self._lock = threading.Lock()
        self.prompt: Callable[[], str] | None = None
        """What stands on the line that is typed."""
        self._asked: SimpleQueue[Callable[[], object] | None] | None = None
        self._reads_for_others = self._has_left = False

    def give(self, name: str, piece: str | bytes) -> None:
        """Print it. Raises OSError if nobody reads what we print."""
        if self.ended is None or name == "stdout":
            with self._lock:
                self._context.copy().run(self._give, name, piece)

    def _give(self, name: str, piece: str | bytes) -> None:
        stream, prompt = getattr(sys, name), self.prompt
        try:
            if prompt is None or stream is None or not stream.isatty():
                print_piece(stream, piece)
                return
            text = piece if isinstance(piece, str) else piece.decode("utf-8", "backslashreplace")
            print_piece(stream, f"{ERASE}{text.removesuffix(chr(10))}\n")
            print_piece(sys.stdout, prompt())
        except OSError as exc:
            if name == "stdout":
                self.ended = exc
            raise

    def ask(self, method: str, size: int) -> str | bytes | EllipsisType | None:
        """Read, in the thread that waits for what asks: as a rule the main one, where Ctrl-C arrives. That is None, or `...` if the far side is told of it anyway."""
        if not self._reads_for_others:
            return self._read(method, size)
        answer: SimpleQueue[str | bytes | EllipsisType | None] = SimpleQueue()
        with self._lock:
            if self._asked is None:  # what asks was interrupted
                return None
            self._asked.put(lambda: answer.put(self._read(method, size)))
        return answer.get()

    @contextmanager
    def reading_for_others(self) -> Iterator[SimpleQueue[Callable[[], object] | None]]:
        """In the body this thread reads: it calls what comes through this queue. From now on nobody is answered elsewhere."""
        self._reads_for_others = True
        self._asked = asked = SimpleQueue[Callable[[], object] | None]()
        try:
            yield asked
        finally:
            with self._lock:
                self._asked, self._has_left = None, True
            while not asked.empty():
                read = asked.get()
                if read is not None:
                    read()
            self._has_left = False

    def _read(self, method: str, size: int) -> str | bytes | EllipsisType | None:
        self.reading = True
        try:
            if self._has_left:
                return None
            if self.pressed:  # once: what asks again knows of it
                self.pressed = False
                return ...
            return self._context.copy().run(read_piece, sys.stdin, method, size)
        except KeyboardInterrupt:
            return None
        finally:
            self.reading = False
