"""What a thread is given while it waits."""

from __future__ import annotations

from rpyc_gateway.inbox import Inbox


def test_whoever_waits_elsewhere_is_woken_after_each_gift() -> None:
    inbox, woken = Inbox(), []
    inbox.give("one")
    inbox.waker = lambda: woken.append(inbox.qsize())
    inbox.give("two")
    inbox.waker = None
    inbox.give("three")
    assert woken == [2]
    assert [inbox.get_nowait() for _ in range(3)] == ["one", "two", "three"]
