"""Real `rpyc-gw` processes for the stories of whole chains: started, awaited by what they log, killed, looked into, ended."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

import rpyc_gateway as gw
from rpyc_gateway.errors import Unreachable

START_WITHIN = 15.0  # an interpreter, its imports and a listener, on a busy machine
END_WITHIN = 5.0
PAGE = os.sysconf("SC_PAGE_SIZE")
RPYC_GW = (sys.executable, "-W", "error", "-m", "rpyc_gateway")

log = logging.getLogger(__name__)
log.setLevel(logging.DEBUG)  # pytest shows it for a test that fails


class Process:
    """One process of ours in a session of its own, with whatever it starts. What it says on stderr is kept, and logged."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self._popen.pid
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            log.info("%s| %s", self.name, line.rstrip())
            with self._said:
                self.lines.append(line.rstrip())
                self._said.notify_all()
        with self._said:
            self.lines.append("(end)")
            self._said.notify_all()

    def wait_line(self, pattern: str, *, within: float = START_WITHIN) -> re.Match[str]:
        """The first line that matches, as soon as it is said."""
        found: re.Match[str] | None = None

        def look() -> bool:
            nonlocal found
            found = next(filter(None, (re.search(pattern, line) for line in self.lines)), None)
            return found is not None or self.lines[-1:] == ["(end)"]

        with self._said:
            self._said.wait_for(look, within)
        assert found is not None, f"{self.name} did not say {pattern!r} within {within:g} s, but:\n" + "\n".join(
            self.lines
        )
        return found

    @property
    def url(self) -> str:
        """Where a node listens, really: of `tcp://127.0.0.1:0` with the port that it got."""
        return self.wait_line(r": listening on (\S+)")[1]

    # -- what is done to it

    def kill(self) -> None:
        """As a power cut would: no last words. Its children live on, to see what they make of it."""
        self._popen.kill()
        self._popen.wait()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """As a machine that hangs: it keeps its connections and does nothing."""
        self._popen.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._popen.send_signal(signal.SIGCONT)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._popen.send_signal(signal.SIGINT)

    def tell_to_end(self) -> None:
        if self._popen.poll() is None:
            self._popen.terminate()

    def end(self) -> int | None:
        """Reap it, in order if it goes in time; nothing of its session is left. Its exit status, or None if it had to be killed."""
        status: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._popen.wait(END_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()
        self._reader.join(END_WITHIN)
        assert self._popen.stderr is not None
        self._popen.stderr.close()
        return status

    # -- what can be seen of it

    @property
    def memory(self) -> int:
        """Bytes of it that are in RAM."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE

    @property
    def work(self) -> int:
        """CPU time it has used, in clock ticks."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


class House:
    """The processes of one story, and the directory of their configurations and sockets."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[Process] = []

    def start(self, name: str, config: str, *, inside: Sequence[str] = ()) -> Process:
        """A node with this configuration; whoever asks for its `url` waits until it listens. `inside` is a command to run it under."""
        file = self.directory / f"{name}.toml"
        file.write_text(f'[node]\nname = "{name}"\n{config}', encoding="utf-8")
        return self.run(name, *inside, *RPYC_GW, "run", "--config", str(file))

    def run(self, name: str, *command: str) -> Process:
        """Any program."""
        process = Process(name, command)
        self.processes.append(process)
        return process

    def socket(self, name: str) -> str:
        """The URL of a unix socket of this house."""
        return f"unix://{self.directory}/{name}.sock"

    def end(self) -> None:
        """End everything, all at once. A node that logged a defect of its own, or did not go when told, fails the test."""
        for process in self.processes:
            process.tell_to_end()
        statuses = {process: process.end() for process in self.processes}
        stuck = [process.name for process, status in statuses.items() if status is None]
        defects = [f"{process.name}: {line}" for process in self.processes for line in process.lines if is_defect(line)]
        assert not stuck, f"{stuck} did not end within {END_WITHIN:g} s of SIGTERM"
        assert not defects, "\n".join(defects)


def is_defect(line: str) -> bool:
    """Whether a node has logged a mistake of its own, rather than the world's: a traceback in a message may be a board's."""
    return not re.match(r"[0-9:]+ (DEBUG|INFO|WARNING) ", line) and any(
        sign in line for sign in (" ERROR ", "Traceback (most recent call last)", "Exception ignored in")
    )


@contextlib.contextmanager
def open_house() -> Iterator[House]:
    # Not pytest's tmp_path: the path of a unix socket has 107 bytes at most.
    with TemporaryDirectory(prefix="gw-") as directory:
        house = House(Path(directory))
        try:
            yield house
        finally:
            house.end()


def listen(url: str, *, more: str = "") -> str:
    return f'[[listen]]\nurl = "{url}"\n{more}\n'


def dial(url: str, *, via: str = "") -> str:
    return f'[[dial]]\nurl = "{url}"\n' + (f'via = "{via}"\n' if via else "")


def serve(service: str = "classic", *, to: str = "*") -> str:
    return f'[[serve]]\nservice = "{service}"\nallow = ["{to}"]\n'


LOOPBACK = "tcp://127.0.0.1:0"
LAB_CHILD = f"stdio:{shlex.join(RPYC_GW)} stdio --name lab --serve classic"


# -- waiting for processes, which send no events: the only places that look again and again


def connect_when_up(url: str, node: str, *, within: float = START_WITHIN) -> gw.BlockingSession:
    """A session with a node that is on its way up. Raises what the last attempt raised if it does not come in time."""
    deadline = time.monotonic() + within
    while True:
        try:
            return gw.connect(url, node=node)
        except Unreachable:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def free_port() -> int:
    """For a program that cannot choose one itself, and say which."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_port(port: int, *, within: float = START_WITHIN) -> None:
    """Until somebody listens there."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.02)


async def wait_until(reached: Callable[[], object], *, within: float = START_WITHIN) -> None:
    with trio.fail_after(within):
        while not reached():  # noqa: ASYNC110  # what it looks at is in another process
            await trio.sleep(0.01)


async def wait_idle(*processes: Process, within: float = START_WITHIN) -> None:
    """Until these processes have nothing to do: no CPU time used in 30 looks in a row."""
    with trio.fail_after(within):
        looks, before = 0, [process.work for process in processes]
        while looks < 30:
            await trio.sleep(0.01)
            now = [process.work for process in processes]
            looks, before = (looks + 1 if now == before else 0), now
