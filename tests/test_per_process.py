"""What a process has one of."""

from __future__ import annotations

import subprocess
import sys
import threading

from rpyc_gateway.per_process import PerProcess


def test_it_is_made_once_whoever_wants_it_first() -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    one = PerProcess(make)
    assert made == []
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(one())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert got == made * 8


def test_a_child_makes_its_own_though_another_thread_was_making_one() -> None:
    code = """
import os, signal, threading
from rpyc_gateway.per_process import PerProcess
begun, made = threading.Event(), PerProcess(lambda: object())
ours = made()
slow = PerProcess(lambda: os.getpid() == parent and (begun.set(), threading.Event().wait()) or "made")
parent = os.getpid()
threading.Thread(target=slow, daemon=True).start()
begun.wait()
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
else:
    signal.alarm(20)
    os._exit(not (slow() == "made" and made() is not ours))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_child_is_of_another_generation() -> None:
    code = """
import os
from rpyc_gateway.per_process import process
ours = process.generation
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or process.generation != ours)
else:
    os._exit(process.generation == ours)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
