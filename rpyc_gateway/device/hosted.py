"""What the agent has under CPython 3.8 and later on POSIX systems instead of a board's port; never imported here.

Its sections stand around those of agent.py (device/bare.py). A thread reads, so that the key and the end of the pipe are heard while a call runs.
"""

#: hosted
import sys

path = sys.path[:]
sys.path[:] = [
    place for place in path if place
]  # what lies in the directory that it was started in is not what is meant here

import os
import select
import signal
import subprocess
import threading
import time
import traceback
from queue import Empty, SimpleQueue

KEY = b"\x03"
PROBE = b"\x05"
NODE = "import os,sys;os.write(1,bytes.fromhex(sys.argv.pop(1)));from rpyc_gateway.cli import main;main(sys.argv[1:],prog_name='rpyc-gw')"
lines = SimpleQueue()  # from the thread: lines, the key, b"" at the end
ends = []  # descriptors of the pipe
pressed = 0  # the key, and nobody has been interrupted yet
boss = threading.get_ident()
turn = threading.Lock()  # of who writes; an interrupt does not come there
here = globals()


def begin(version, called, seconds):
    """Become a node where one of this version is installed, or else take the pipe, until nothing has come for so long."""
    if installed(version):
        command = [sys.executable] + subprocess._args_from_interpreter_flags() + ["-c", NODE, greeting("node").hex()]
        os.execv(sys.executable, command + ["stdio", "--serve", "classic"] + (["--name", called] if called else []))
    ends.extend((os.dup(0), os.dup(1)))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # what is printed does not get into the pipe
    os.close(null)
    for name in ("ps1", "ps2"):  # whoever asks for them wants to know whether a person is there
        vars(sys).pop(name, None)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, interrupted)
    os.register_at_fork(after_in_child=let_go)
    threading.Thread(target=listen, args=(seconds,), daemon=True).start()
    sys.path[:] = path
    write(greeting("agent"))


def let_go():
    """In a child that was forked: the pipe is its parent's."""
    for end in ends:
        os.close(end)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def installed(version):
    if not version or sys.version_info < (3, 11) or not sys.executable:
        return False
    from importlib import metadata, util

    try:
        if all(map(util.find_spec, ("rpyc_gateway", "trio", "msgspec", "click"))):
            return metadata.version("rpyc-gateway").split(".")[:2] == version
    except (ImportError, ValueError):
        pass
    return False


def greeting(what):
    kind = sys.implementation.name
    facts = repr((what, kind, "%d.%d.%d" % sys.version_info[:3], sys.platform, os.uname()[1], os.getpid())).encode()
    return b"\x01\x00" + len(facts).to_bytes(2, "big") + b"RPPY" + facts


def listen(seconds):
    begun = []
    poller = select.poll()
    poller.register(ends[0], select.POLLIN)
    while poller.poll(seconds * 1000):
        try:
            data = os.read(ends[0], 65536)
        except OSError:
            break
        if not data:
            break
        keys = KEY in data
        if keys:
            data = data.replace(KEY, b"")  # it is in no frame
        if PROBE in data:
            data = data.replace(PROBE, b"")
            try:
                write(b"\n")
            except SystemExit:
                break
        parts = data.split(b"\n")
        if len(parts) > 1:
            parts[0] = b"".join(begun) + parts[0]
            begun = []
            for line in parts[:-1]:
                if line:
                    lines.put(line + b"\n")
        begun.append(parts[-1])
        if keys:
            press()
    lines.put(b"")
    for _ in range(40):  # what runs is told to end, and has two seconds
        press()
        time.sleep(0.05)
    os._exit(1)


def press():
    global pressed
    pressed = 1
    lines.put(KEY)
    signal.pthread_kill(boss, signal.SIGINT)


def interrupted(number, frame):
    """Interrupt a call. What the agent itself is doing is not interrupted: it hears of the key when it reads."""
    global pressed
    while frame and frame.f_globals is not here:
        frame = frame.f_back
    if frame and pressed and (frame.f_code is work.__code__ or frame.f_code.co_name == "<lambda>"):
        pressed = 0
        raise KeyboardInterrupt


def read_line(ms):
    global pressed
    line = KEY
    while line == KEY:
        try:
            # Nothing is lost here: an acknowledgement comes for certain, however long the way is.
            line = lines.get(True, None if unacked and not owed else ms / 1000)
        except Empty:
            return b""
        if line == KEY and pressed:
            pressed = 0
            raise KeyboardInterrupt
    if not line:
        lines.put(b"")
        raise SystemExit
    return line


def write(data):
    with turn:
        while data:
            try:
                data = data[os.write(ends[1], data) :]
            except OSError:
                raise SystemExit


def mem_free():
    return 1 << 28  # a message may have a quarter of it


def trace(error):
    where = error.__traceback__
    while where and where.tb_frame.f_globals is here:
        where = where.tb_next
    return "".join(traceback.format_exception(type(error), error, where))


#: roomy
inflow = bytearray()  # which grows in place
space = sys.modules["__main__"].__dict__
for begun in ("os", "sys", "_"):
    space.pop(begun, None)


def framed(body):
    """A front does not take more. Whoever asked is told."""
    if len(body) > 1 << 26:
        raise MemoryError("an answer of %d bytes; at most %d are sent" % (len(body), 1 << 26))
    data = bytearray()
    add(data, len(body))
    return bytes(data) + body


def call_host(self, *args, **keywords):
    """Only one thread can wait for an answer; events nobody waits for."""
    if not self.event and threading.get_ident() != boss:
        raise RuntimeError("only the main thread may call what is on the other side; any may call an Event")
    return call(self, *args, **keywords)


call = Host.__call__
Host.__call__ = call_host
