"""A namespace for somebody at a prompt elsewhere, or for a script from there. It is sent to the far side as text: standard library only (Python 3.8 and later)."""

from __future__ import annotations
import __future__

import ast
import builtins
import linecache
import sys
import threading
import time
import traceback
from typing import Any

__all__ = ["Console", "open_console"]

FLAGS = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
AGAIN = 0.01  # seconds until the next try to interrupt what must not be interrupted at the moment
UNDISTURBED = 0.1  # seconds; a thread that begins to wait for its turn meanwhile may wait as long
SHOW = "_gateway_show"


def open_console(handle: Any, names: Any, wait: Any) -> Console:
    """A namespace that begins with these names, pairs of a name and its value. `handle` is that of the redirection of its streams.

    Each time that `wait` returns the number of a turn this is interrupted, until it returns 0; when it cannot be called any more, what runs is. Without it (None) somebody else sees to that.
    """
    console = Console(handle, dict(names))
    if wait is not None:
        threading.Thread(target=console.watch, args=(wait,), name="rpyc-gateway console", daemon=True).start()
    return console


class Console:
    """Runs statements one after another, as Python's own prompt does."""

    def __init__(self, handle: Any, names: dict[str, Any]) -> None:
        # Not the handle itself: a traceback that somebody keeps (sys.last_traceback) keeps us, and the redirection must end with its session.
        self._interrupt_printing, self._interrupts, self._spare = handle.interrupt, handle.interrupts, handle.spare
        self._drain, self._forget = handle.drain, handle.forget
        self._space = {"__name__": "__console__", "__doc__": None, **names}
        self._space[SHOW] = show_in(self._space)
        self._flags = 0
        self._files: list[tuple[str, Any]] = []
        self._lock = (
            threading.RLock()
        )  # not a Lock: an interrupt that leaves it taken leaves it to the thread that it came to
        self._running: dict[
            int, int
        ] = {}  # the thread of each turn: one as a rule, but there may be some that were left alone
        self._raised: set[int] = set()  # turns in whose thread an interrupt was raised
        self._latest = 0  # the turn that has begun last
        self._early = 0  # one that was to be interrupted before it had begun
        self._is_watched = False

    def __del__(self) -> None:
        for name, entry in self._files:
            if linecache.cache.get(name) is entry:
                del linecache.cache[name]

    @staticmethod
    def about() -> str:
        """Which Python this is."""
        kind = {"cpython": "Python", "pypy": "PyPy"}.get(sys.implementation.name, sys.implementation.name)
        return f"{kind} {'.'.join(map(str, sys.version_info[:3]))} ({sys.platform})"

    def run(self, turn: int, source: str) -> tuple[Any, ...]:
        """Run statements. What they are worth is printed, and what they raise with its traceback. () as a rule, (code,) for SystemExit."""
        return self._guarded(turn, self._run, source) or ()

    def script(self, turn: int, source: bytes, filename: str, mode: str) -> int:
        """Run a script, or of an expression (`mode` "eval") print its value, as the only thing here. Returns what a process would exit with."""
        self._space["__name__"] = "__main__"
        return self._guarded(turn, self._script, source, filename, mode) or 0

    def _guarded(self, turn: int, work: Any, *args: Any) -> Any:
        """Do what may be interrupted from elsewhere. Turns are numbered from 1 on."""
        try:
            try:
                with self._lock:
                    self._running[turn] = threading.get_ident()
                    self._latest = turn
                if self._early == turn:
                    sys.stderr.write("KeyboardInterrupt\n")
                    return None
                result = work(*args)
                self._drain()
                return result
            finally:
                self._leave(turn)
        except KeyboardInterrupt:  # it came when all had just ended
            self._leave(turn)
            return None

    def _leave(self, turn: int) -> None:
        """From here on no interrupt comes."""
        me = threading.get_ident()
        while True:
            try:
                with self._lock:
                    self._running.pop(turn, None)
                    if turn in self._raised:
                        self._raised.discard(turn)
                        take_back(me)
                    self._spare(me)
                    self._forget(me)
                return
            except KeyboardInterrupt:
                continue

    def _run(self, source: str) -> tuple[Any, ...]:
        number = len(self._files)
        while f"<console {number}>" in linecache.cache:
            number += 1
        name = f"<console {number}>"
        self._remember(source, name)
        try:
            code = self._compile(source, name)
        except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as exc:
            sys.stderr.write("".join(traceback.format_exception_only(type(exc), exc)))
            return ()
        try:
            self._execute(code)
        except SystemExit as exc:
            plain = exc.code is None or isinstance(exc.code, int)
            return (exc.code if plain else str(exc.code),)
        except BaseException as exc:  # noqa: BLE001 - it is told in full, Ctrl-C too
            self._spare(threading.get_ident())
            if self._is_watched or not isinstance(exc, KeyboardInterrupt):  # else nobody waits any more
                self._tell(exc)
        return ()

    def _script(self, source: bytes, filename: str, mode: str) -> int:
        self._remember(source.decode("utf-8", "replace"), filename)
        try:
            value = self._execute(compile(source, filename, mode, dont_inherit=True))
            if mode == "eval":
                print(value)
        except SystemExit as exc:
            if exc.code is None or isinstance(exc.code, int):
                return (exc.code or 0) & 0xFF
            print(exc.code, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        except BaseException as exc:  # noqa: BLE001 - it is told in full
            self._tell(exc)
            return 1
        return 0

    def _execute(self, code: Any) -> Any:
        return eval(code, self._space)

    def _compile(self, source: str, name: str) -> Any:
        """As for "single": expressions are shown, but not those in functions and classes; and `from __future__` stays."""
        tree = ast.parse(source, name)
        for statement in tree.body:
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                for alias in statement.names:
                    self._flags |= getattr(getattr(__future__, alias.name, None), "compiler_flag", 0) & FLAGS
        tree = ast.fix_missing_locations(_Shown().visit(tree))
        return compile(tree, name, "exec", self._flags, dont_inherit=True)

    def _remember(self, source: str, name: str) -> None:
        """Let tracebacks find the lines of a piece of source as long as this console is there."""
        linecache.cache[name] = entry = (len(source), None, source.splitlines(keepends=True), name)
        self._files.append((name, entry))

    def _tell(self, error: BaseException) -> None:
        where = error.__traceback__
        while where and is_ours(where.tb_frame):
            where = where.tb_next
        if isinstance(error, KeyboardInterrupt):
            cut_ours(where)
        error = error.with_traceback(where)
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, where  # for pdb.pm()
        sys.last_exc = error  # type: ignore[attr-defined]
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, where)
        else:
            sys.stderr.write("".join(traceback.format_exception(type(error), error, where)))

    def names(self, owner: str, begun: str) -> tuple[str, ...]:
        """What begins so among the names of an object, or without `owner` among those that can be written alone."""
        try:
            if owner:
                found = dir(eval(owner, self._space))
            else:
                found = [*self._space, *dir(builtins)]
        except Exception:  # noqa: BLE001 - there is no such object
            return ()
        return tuple(name for name in found if name.startswith(begun))

    # -- Ctrl-C ---------------------------------------------------------------------------------------------------------

    def watch(self, wait: Any) -> None:
        """Interrupt what is to be interrupted, until the session is over."""
        self._is_watched = True
        while True:
            try:
                turn = wait()
            except Exception:  # noqa: BLE001 - there is nobody any more
                for begun in list(self._running):
                    self._interrupt(begun)
                return
            if not turn:
                return
            self._interrupt(turn)

    def _interrupt(self, turn: int) -> None:
        with self._lock:
            if turn > self._latest:
                self._early = turn
            thread = self._running.get(turn)
        if thread is None:
            return
        self._interrupt_printing(thread)  # if it prints, or waits until it may: it does so itself
        while True:
            with self._lock:
                if turn not in self._running or self._interrupt_at_once(turn, thread):
                    return
            time.sleep(AGAIN)

    def _interrupt_at_once(self, turn: int, thread: int) -> bool:
        """Whether it is done. The gateway's own code must not be interrupted: it would leave a link half changed."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(UNDISTURBED)  # else the thread could get there between the look and the deed
        try:
            if not self._is_outside(thread):
                return not self._interrupts(thread)
            if not self._spare(thread) or not raise_in(thread):
                return True  # it has done so itself; or there is no way to do it
            self._raised.add(turn)
            if self._is_outside(thread):
                return True
            take_back(thread)
            self._interrupt_printing(thread)
            return False
        finally:
            sys.setswitchinterval(interval)

    def _is_outside(self, thread: int) -> bool:
        """Whether a thread runs the code of a statement, and not ours."""
        frame = sys._current_frames().get(thread)  # noqa: SLF001
        while frame is not None:
            if frame.f_code is self._execute.__func__.__code__:  # type: ignore[attr-defined]
                return True
            if frame.f_globals is not globals() and is_ours(frame):
                return False
            frame = frame.f_back
        return False


class _Shown(ast.NodeTransformer):
    """Expressions that stand alone are shown."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        show = ast.Name(SHOW, ast.Load())
        return ast.copy_location(
            ast.Expr(ast.copy_location(ast.Call(ast.copy_location(show, node), [node.value], []), node)), node
        )

    def visit_FunctionDef(self, node: Any) -> Any:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = visit_FunctionDef  # noqa: N815


def show_in(space: dict[str, Any]) -> Any:
    """What shows the value of an expression."""

    def show(value: Any) -> None:
        if sys.displayhook is not sys.__displayhook__:
            sys.displayhook(value)
        elif value is not None:
            space["_"] = None  # as Python does it: a repr() that asks for it finds itself not there yet
            print(repr(value))
            space["_"] = value

    return show


def is_ours(frame: Any) -> bool:
    """Whether it runs the gateway's code, and not what was defined in the namespace of a session, `__rpyc_gateway__`."""
    return frame.f_globals.get("__name__", "").startswith(("rpyc_", "_rpyc_"))  # type: ignore[no-any-return]


def cut_ours(where: Any) -> None:
    """Leave out of a traceback what the gateway did for a statement that was interrupted."""
    while where and where.tb_next:
        if is_ours(where.tb_next.tb_frame):
            where.tb_next = None
        where = where.tb_next


def raise_in(thread: int) -> bool:
    """Let KeyboardInterrupt be raised in a thread at its next bytecode. False where that is not possible."""
    if is_trap():
        return False
    try:
        import ctypes

        act = ctypes.pythonapi.PyThreadState_SetAsyncExc
    except (ImportError, AttributeError):
        return False
    act(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
    return True


def is_trap() -> bool:
    """Whether nothing may be raised in another thread, as all threads are traced (by coverage, for one) and this is CPython 3.11.

    There a function that is entered under a tracer is entered for ever as long as anything is to be raised in any thread.
    """
    return sys.version_info[:2] == (3, 11) and threading.gettrace() is not None


def take_back(thread: int) -> None:
    """What `raise_in` has begun, and has not come yet, does not come.

    That something is to be raised is forgotten by CPython 3.11 only when something is (see `is_trap`): so something is here, and no function is
    entered before.
    """
    import ctypes

    act = ctypes.pythonapi.PyThreadState_SetAsyncExc
    me = threading.get_ident()
    here, there = ctypes.c_ulong(me), ctypes.c_ulong(thread)
    interrupt = ctypes.py_object(KeyboardInterrupt)
    try:
        if thread != me:
            act(there, None)
        act(here, interrupt)  # in the own thread it takes the place of what is still to come
        while True:
            pass
    except KeyboardInterrupt:
        pass
