"""Who reads a link: the threads that wait for it take turns, and trio or the standby where none does."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from rpyc_gateway import leading
from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.inbox import Inbox
from rpyc_gateway.leading import LEAD, Leadership, can_lead
from rpyc_gateway.standby import standby
from rpyc_gateway.turn import deferral


def wait(lead: Leadership, inbox: Inbox, deadline: Deadline | None = None, *, deferred: bool = False) -> object:
    """The next item of the inbox, waited for as a ThreadWaiter does."""
    if lead.lead(inbox, deadline, deferred=deferred):
        return None if inbox.empty() else inbox.get_nowait()
    return lead.follow(inbox, deadline, deferred=deferred)


class Link:
    """A socket whose bytes are letters: each goes to the inbox that it names."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.settimeout(0)
        self.inboxes = {"a": Inbox(), "b": Inbox()}
        self.readers: SimpleQueue[str] = SimpleQueue()
        self.resumed = 0
        self.lead = Leadership(self.near.fileno(), self.read, self.resume)

    def read(self) -> None:
        self.readers.put(threading.current_thread().name)
        for letter in self.near.recv(100).decode():
            self.inboxes[letter].give(letter)

    def resume(self) -> None:
        self.resumed += 1

    def say(self, letters: str) -> None:
        self.far.send(letters.encode())

    def wait(self, letter: str, deadline: Deadline | None = None) -> object:
        return wait(self.lead, self.inboxes[letter], deadline)

    def close(self) -> None:
        self.lead.end()
        self.near.close()
        self.far.close()


@pytest.fixture
def link() -> Iterator[Link]:
    made = Link()
    yield made
    made.close()


def start(name: str, call: object) -> threading.Thread:
    thread = threading.Thread(target=call, name=name)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_the_standby_waits_a_moment_for_who_has_the_lead_and_does_not_go_round_meanwhile(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going round it kept the only processor from the thread that was about to dismiss it, for as long as the system let it."""
    monkeypatch.setattr(leading, "MOMENT", 10.0)
    link.say("a")
    link.lead.standing_by = True
    assert link.lead._lead.acquire()
    reader = start("standby", link.lead.read_standing_by)
    reader.join(0.05)
    assert reader.is_alive()
    link.lead._lead.release()
    reader.join()
    assert link.readers.get_nowait() == "standby"
    link.lead.standing_by = False
    monkeypatch.setattr(leading, "MOMENT", 0.0)
    assert link.lead._lead.acquire()
    link.lead.read_standing_by()  # and no longer than that
    assert link.readers.empty()
    link.lead._lead.release()


def here() -> str:
    return threading.current_thread().name


def test_a_thread_that_waits_reads_its_answer_itself(link: Link) -> None:
    link.say("a")
    assert link.wait("a") == "a"
    assert link.readers.get(timeout=10) == here()


def test_what_the_leader_reads_for_others_wakes_them_and_the_lead_is_passed_on(link: Link) -> None:
    said: SimpleQueue[object] = SimpleQueue()

    def follow() -> None:
        said.put(link.wait("b"))
        said.put(link.wait("b"))

    assert link.lead.claim()  # so that the other one follows
    other = start("other", follow)
    while not link.lead._followers:
        os.sched_yield()
    link.lead.leave()
    assert said.get(timeout=10) is LEAD
    link.say("b")
    assert said.get(timeout=10) == "b"
    other.join(10)
    assert link.readers.get(timeout=10) == "other"


def test_one_that_follows_gets_what_the_leader_reads(link: Link) -> None:
    said: SimpleQueue[object] = SimpleQueue()
    assert link.lead.claim()
    other = start("other", lambda: said.put(link.wait("b")))
    while not link.lead._followers:
        os.sched_yield()
    link.say("b")
    link.read()
    assert said.get(timeout=10) == "b"
    other.join(10)
    link.lead.leave()


class Leaving(Inbox):
    """The inbox of a thread that has its outcome, and leaves at the very moment when the lead is passed on to it."""

    def __init__(self, lead: Leadership) -> None:
        self.lead = lead

    def give(self, item: object) -> None:
        self.lead._followers.pop(self, None)
        super().give(item)


def test_the_lead_is_not_left_to_one_that_has_gone(link: Link) -> None:
    stays = link.inboxes["a"]
    for inbox in (Leaving(link.lead), stays):
        link.lead._followers[inbox] = None
    link.lead.hand_on()
    assert stays.get_nowait() is LEAD


def test_nobody_waits_longer_than_to_its_deadline(link: Link) -> None:
    over = Deadline(time.monotonic() - 1, "a second")
    assert link.wait("a", over) is None
    assert link.lead.claim()
    assert link.wait("a", over) is None  # the same where it follows
    link.lead.leave()


def test_the_leader_is_woken_by_what_others_put_into_its_inbox(link: Link) -> None:
    def give() -> None:
        while link.inboxes["a"].waker is None:
            os.sched_yield()
        link.inboxes["a"].give("from a thread")

    giver = start("giver", give)
    assert link.wait("a") == "from a thread"
    giver.join(10)
    assert link.readers.empty()


def test_where_no_thread_waits_any_more_the_standby_reads(link: Link) -> None:
    link.say("a")
    assert link.wait("a") == "a"
    assert link.readers.get(timeout=10) == here()
    link.say("b")
    assert link.inboxes["b"].get(timeout=10) == "b"
    assert link.readers.get(timeout=10) == "rpyc-gateway standby"


def test_the_standby_takes_a_link_over_once_whoever_comes_first(link: Link) -> None:
    """A pause makes the leader hand it over, while the standby still looks after it."""
    link.say("a")
    assert link.wait("a") == "a"
    assert link.lead.watched
    assert link.lead.lead(link.inboxes["a"], idle=0.0)
    assert link.lead.standing_by
    while link.lead.watched:
        os.sched_yield()
    assert link.lead.standing_by
    link.say("b")
    assert link.inboxes["b"].get(timeout=10) == "b"


def test_a_thread_takes_the_lead_back_from_the_standby(link: Link) -> None:
    link.say("a")
    assert link.wait("a") == "a"
    while not link.lead.standing_by:
        os.sched_yield()
    late = start("late", lambda: link.wait("a"))
    while link.inboxes["a"].waker is None:
        os.sched_yield()
    assert not link.lead.standing_by
    link.say("a")
    late.join(10)
    names = {link.readers.get(timeout=10) for _ in range(2)}
    assert names == {here(), "late"}


def test_a_leader_that_waits_for_long_is_not_looked_after_and_says_when_it_leaves(link: Link) -> None:
    late = start("late", lambda: link.wait("a"))
    while link.inboxes["a"].waker is None:
        os.sched_yield()
    while link.lead.watched:
        os.sched_yield()
    link.say("a")
    late.join(10)
    link.say("b")
    assert link.inboxes["b"].get(timeout=10) == "b"


def test_trio_reads_a_link_that_is_for_trio_and_goes_on_when_the_threads_have_left(link: Link) -> None:
    link.say("a")
    assert link.wait("a") == "a"
    assert not link.lead.for_trio  # a thread has asked
    link.lead.read_for_trio()
    assert link.resumed == 1
    assert link.lead.claim()
    link.lead.read_for_trio()
    assert link.resumed == 1  # not while somebody leads
    link.lead.leave()
    assert link.resumed == 2


def test_when_the_link_is_over_nobody_leads_and_whoever_did_leaves(link: Link) -> None:
    late = start("late", lambda: link.lead.lead(link.inboxes["a"]))
    while link.inboxes["a"].waker is None:
        os.sched_yield()
    link.lead.end()
    late.join(10)
    assert not late.is_alive()
    assert not link.lead.lead(link.inboxes["a"])
    assert not link.lead.claim()


def test_a_worker_s_wait_ends_when_nothing_comes(link: Link) -> None:
    assert link.lead.lead(link.inboxes["a"], idle=0.0)
    assert link.lead.claim()
    assert not link.lead.lead(link.inboxes["a"], idle=0.0)
    link.lead.leave()


def test_an_interrupt_gets_through_to_a_leader_that_waits_and_the_lead_is_free_again(link: Link) -> None:
    def press() -> None:
        while link.inboxes["a"].waker is None:
            os.sched_yield()
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert deferral.begin()
        presser = start("presser", press)
        with pytest.raises(KeyboardInterrupt):
            wait(link.lead, link.inboxes["a"], deferred=True)
        deferral.end()
        presser.join(10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert link.lead.claim()
    link.lead.leave()


def test_an_interrupt_that_comes_with_an_item_does_not_cost_it(link: Link) -> None:
    """The lead for one: if it got lost, nobody would read the link any more."""

    def give_and_press() -> None:
        while not link.lead._followers:
            os.sched_yield()
        link.inboxes["a"].give("a")
        os.kill(os.getpid(), signal.SIGINT)  # before the other thread runs again

    before, interval = signal.signal(signal.SIGINT, signal.default_int_handler), sys.getswitchinterval()
    sys.setswitchinterval(10)
    try:
        assert link.lead.claim()
        assert deferral.begin()
        presser = start("presser", give_and_press)
        with pytest.raises(KeyboardInterrupt):
            wait(link.lead, link.inboxes["a"], deferred=True)
        deferral.end()
        presser.join(10)
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGINT, before)
    assert link.inboxes["a"].get_nowait() == "a"
    link.lead.leave()


def test_what_wakes_the_leader_of_a_link_that_is_over_serves_another_though_threads_wait() -> None:
    link = Link()
    link.say("a")
    assert link.wait("a") == "a"
    waker = link.lead._waker
    assert link.lead.claim()
    late = start("late", lambda: link.wait("b"))
    while not link.lead._followers:
        os.sched_yield()
    link.close()
    link.lead.leave()
    assert waker in leading._wakers
    link.inboxes["b"].give("the end")
    late.join(10)
    assert not late.is_alive()


def test_a_link_that_ends_while_its_leader_calls_the_standby_is_not_waited_for(link: Link) -> None:
    """Its number may be that of the next link, which would not be read then."""
    link.say("a")
    assert link.wait("a") == "a"

    def end_in_a_pause(_: object) -> list[tuple[int, int]]:
        link.lead.end()
        return []

    link.lead._poll = end_in_a_pause
    assert link.lead.lead(link.inboxes["a"], idle=0.0)
    assert not link.lead.standing_by
    assert link.lead.fileno not in standby()._waiting


@pytest.mark.parametrize("leads", [True, False])
def test_an_interrupt_that_came_in_the_middle_of_something_is_not_slept_over(link: Link, leads: bool) -> None:  # noqa: FBT001
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if not leads:
            assert link.lead.claim()
        assert deferral.begin()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            wait(link.lead, link.inboxes["a"], deferred=True)
        deferral.end()
    finally:
        signal.signal(signal.SIGINT, before)
        if not leads:
            link.lead.leave()
    assert link.lead.claim()
    link.lead.leave()


@pytest.mark.parametrize("leads", [True, False])
def test_an_interrupt_that_woke_another_thread_is_heard_when_the_main_one_looks_up(link: Link, leads: bool) -> None:  # noqa: FBT001
    over = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if not leads:
            assert link.lead.claim()

        def take_it() -> None:
            while not deferral.open:
                os.sched_yield()
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            over.wait(30)

        other = start("other", take_it)
        assert deferral.begin()
        with pytest.raises(KeyboardInterrupt):
            list(iter(lambda: wait(link.lead, link.inboxes["a"], deferred=True), "an item"))
        deferral.end()
    finally:
        signal.signal(signal.SIGINT, before)
        over.set()
        other.join(10)
        if not leads:
            link.lead.leave()
    assert link.lead.claim()
    link.lead.leave()


def test_only_descriptors_of_systems_that_can_poll_them_are_led(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_lead(0)
    assert not can_lead(-1)
    monkeypatch.delattr(select, "epoll")
    assert not can_lead(0)
