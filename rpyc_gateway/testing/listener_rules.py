"""The rules for what a transport does with URLs: what it says of them, dialling, listening, and leaving nothing behind."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.testing.leftovers import Belongings, Interruption, count_steps, interrupted
from rpyc_gateway.testing.partner import GREETING, EndOfStream, Partner, describe, exactly, part
from rpyc_gateway.testing.trial import NotApplicable, Started, Trial, fault
from rpyc_gateway.transport import Transport, missing_from, without_secrets

__all__ = [
    "cancelled_dials_leave_nothing",
    "cancelled_listeners_leave_nothing",
    "facts_are_facts",
    "failing_handler_hurts_nobody",
    "many_at_once_are_kept_apart",
    "nobody_there_is_said",
    "wrong_urls_are_said_to_be_wrong",
]

LONGEST_PEER = 500
SECRET = "hunter2"  # the password of a URL


async def facts_are_facts(trial: Trial) -> str:
    """What a pipe says of itself has the right types and sane values, at both ends; so has what the transport says of its URLs."""
    missing = missing_from(trial.transport)
    if missing:
        fault(f"{type(trial.transport).__name__} is no transport: it lacks {', '.join(missing)}")
    async with trial.serving():
        for url in {trial.url or trial.target, trial.target}:
            problem = trial.transport.check(url)
            if problem is not None:
                fault(f"check({url!r}) says {problem!r}; that URL is in use")
            for name in ("is_private", "is_guarded"):
                said = getattr(trial.transport, name)(url)
                if not isinstance(said, bool):
                    fault(f"{name}({url!r}) says {said!r}, which is neither True nor False")
        async with trial.dialled("describe") as pipe:
            near = describe(pipe)
            size = int.from_bytes(await trial.hear(pipe, 4, "the size of a description"))
            far = json.loads(await trial.hear(pipe, size, "a description"))
    for side, facts in (("dialling", near), ("listening", far)):
        problem = _what_is_wrong_with(facts)
        if problem:
            fault(f"the pipe of the {side} side has {problem}")
    if near["reliable"] != far["reliable"]:
        fault(f"one side says reliable={near['reliable']}, the other {far['reliable']}")
    return ", ".join(f"{name}={value}" for name, value in near.items())


def _what_is_wrong_with(facts: dict[str, Any]) -> str | None:
    if not facts["reliable"]:
        return "reliable=False: say what makes it reliable (`layer`), the other rules are for what comes out of that"
    for name in ("peer", "identity"):
        said = facts[name]
        if not isinstance(said, str) or not (said.isprintable() and len(said) <= LONGEST_PEER):
            return f"{name}={said!r}, which is not up to {LONGEST_PEER} printable characters"
    if not facts["peer"]:
        return "no `peer`: people need to be told whom it leads to"
    if not isinstance(facts["private"], bool):
        return f"private={facts['private']!r}, which is neither True nor False"
    rate = math.inf if facts["rate"] is None else facts["rate"]
    if not isinstance(rate, (int, float)) or not rate > 0:
        return f"rate={rate!r}, which is no number of bytes per second"
    if not isinstance(facts["message"], int) or not 1 <= facts["message"] <= 1 << 30:
        return f"message={facts['message']!r}, which is no number of bytes"
    if facts["receive_nowait"] and facts["fileno"] < 0:
        return f"receive_nowait, and fileno={facts['fileno']}: there is nothing to poll for it"
    return None


async def wrong_urls_are_said_to_be_wrong(trial: Trial) -> str:
    """`check` answers for any text, in words; what it refuses, `connect` and `serve` refuse in the same words and leave nothing behind."""
    scheme = (trial.url or trial.target).partition(":")[0]
    refused = 0
    for url in (*trial.wrong, *_odd(scheme)):
        shown = url if len(url) < 100 else f"{url[:40]}… ({len(url)} characters)"
        trial.doing = f"check({shown!r})"
        try:
            problem = trial.transport.check(url)
        except ConfigError as exc:  # what is wrong with this machine only
            problem = str(exc)
        for name in ("is_private", "is_guarded"):
            trial.doing = f"{name}({shown!r})"
            getattr(trial.transport, name)(url)
        if problem is None:
            if url in trial.wrong:
                fault(f"check({shown!r}) finds nothing wrong with it")
            continue
        _is_said_in_words(problem, f"check({shown!r})")
        refused += 1
        before = Belongings.now()
        with trial.step(f"dialling {shown!r}"):
            await _refused(trial.transport, url, shown)
        with trial.step(f"serving at {shown!r}"):
            await _not_served(trial.transport, url, shown)
        left = await before.what_is_more(trial.patience)
        if left:
            fault(f"{shown!r} was refused, and left {left}")
    return f"{refused} refused"


def _odd(scheme: str) -> list[str]:
    rests = [
        "",
        "//",
        "///",
        "//\0",
        "// ",
        "//[",
        "//[::1",
        "//host:99999999",
        "//host:-1",
        "//:@:/?#",
        "//?no-such-option=1",
        f"{scheme}:" * 1000,
        "//" + "x" * 100_000,
        "//\ud800",
        "//relay:1/\udca4?\udca4=\udca4",
        "//%zz",
        "//\x1b[2J",
        "'unbalanced",
        f"//user:{SECRET}@",
        f"//user:{SECRET}@relay:1/?no-such-option=1",
    ]
    return [scheme, *(f"{scheme}:{rest}" for rest in rests)]


def _is_said_in_words(text: object, where: str) -> None:
    if SECRET in str(text):
        fault(
            f"{where.replace(SECRET, '…')} repeats the password of its URL: what is said is logged, and shown to others"
        )
    if not isinstance(text, str) or len(text.split()) < 3:
        fault(f"{where} says {text!r}: it should say in words what is wrong")
    if "[Errno" in text or "Traceback" in text:
        fault(f"{where} says {text!r}: that is Python's way to say it, not a user's")


async def _refused(transport: Transport, url: str, shown: str) -> None:
    try:
        async with transport.connect(url):
            pass
    except DialFailed as exc:
        _is_said_in_words(str(exc), f"DialFailed for {shown!r}")
    except Exception as exc:  # noqa: BLE001  it is called a fault
        fault(f"dialling {shown!r} raised {type(exc).__name__}: {exc}; DialFailed was due")
    else:
        fault(f"dialling {shown!r} succeeded; DialFailed was due")


async def _not_served(transport: Transport, url: str, shown: str) -> None:
    started = Started()

    async def nobody(_: object) -> None:
        return

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(transport.serve, url, nobody, task_status=started))
            await started.event.wait()
            nursery.cancel_scope.cancel()
    except* ConfigError as group:
        _is_config_error(group.exceptions[0], f"serving at {shown!r}")
    if started.event.is_set():
        fault(f"check refuses {shown!r}, and serve listens there")


def _is_config_error(exc: BaseException, what: str) -> None:
    if isinstance(exc, BaseExceptionGroup):
        fault(f"{what} raised {type(exc).__name__}: {exc}; ConfigError was due, and not in a group")
    _is_said_in_words(str(exc), f"{what}: ConfigError")


async def nobody_there_is_said(trial: Trial) -> str:
    """Where nobody listens, dialling ends in DialFailed with words; after a listener has gone, too, and another one can take its place."""
    if trial.url is None:
        raise NotApplicable("the listener is in another process")
    async with trial.serving():
        pass
    if trial.many < 2:
        raise NotApplicable("a line has no listener")
    for _ in range(2):
        with trial.step(f"dialling {without_secrets(trial.target)} after its listener has gone"):
            await _refused(trial.transport, trial.target, trial.target)
        async with trial.serving(), trial.dialled("echo") as pipe:
            await trial.echo(pipe, b"!")
        with trial.step(f"serving at {without_secrets(trial.url)} twice at once"):
            await _served_once(trial)
    return "DialFailed, and the place is free again"


async def _served_once(trial: Trial) -> None:
    """A second listener is refused, or takes over: it does not break the first one."""
    assert trial.url is not None
    async with trial.serving():
        started = Started()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(trial.transport.serve, trial.url, Partner(trial.layer), task_status=started))
                await started.event.wait()
                nursery.cancel_scope.cancel()
        except* ConfigError as group:
            _is_config_error(group.exceptions[0], f"serving a second time at {without_secrets(trial.url)}")
        if not started.event.is_set():
            async with trial.dialled("echo") as pipe:
                await trial.echo(pipe, b"!")


async def many_at_once_are_kept_apart(trial: Trial) -> str:
    """Many connections at once each carry their own data."""
    if trial.many < 2:
        raise NotApplicable("it has one pipe at a time")
    async with trial.serving(), trio.open_nursery() as nursery:
        for number in range(trial.many):
            nursery.start_soon(_converse, trial, number)
    return f"{trial.many} connections"


async def _converse(trial: Trial, number: int) -> None:
    async with trial.dialled("echo") as pipe:
        for turn in range(10):
            said = f"{number} says {turn} {'.' * number}".encode()
            await trial.echo(pipe, said, f"connection {number} of {trial.many}, which sent {said[:40]!r}")


async def failing_handler_hurts_nobody(trial: Trial) -> str:
    """A handler that raises ends its own pipe; others go on, and new ones are taken."""
    if trial.url is None:
        raise NotApplicable("the listener is in another process")
    async with trial.serving():
        if trial.many < 2:
            async with trial.dialled("fail") as pipe:
                await trial.hear_end(pipe, "the handler has failed")
            return "its own pipe ends"
        async with trial.dialled("echo") as other:
            async with trial.dialled("fail") as pipe:
                await trial.hear_end(pipe, "the handler has failed")
            await trial.echo(other, b"still there?")
        async with trial.dialled("echo") as pipe:
            await trial.echo(pipe, b"and now?")
    return "its own pipe ends, others go on"


async def cancelled_dials_leave_nothing(trial: Trial) -> str:
    """Cancelled at any step of dialling, sending, receiving and closing, a dialler leaves no task, descriptor, child process or handler behind."""
    trial.doing = "dialling, sending, receiving and closing without being interrupted"
    async with trial.serving():
        steps = await count_steps(partial(_whole_story, trial))
    chosen = _spread(steps, trial.interruptions)
    if trial.many < 2:
        # The listener of a line may wait for whoever comes next; it must be gone when it is cancelled, which `serving` sees to.
        for at in chosen:
            async with trial.serving():
                await _dial_until(trial, at, steps)
    else:
        async with trial.serving() as partner:
            await _dial_until(trial, -1, steps)
            with trial.step("waiting for the handler to end"):
                await partner.wait_gone()
            before = Belongings.now()
            for at in chosen:
                await _dial_until(trial, at, steps)
                with trial.step(f"{trial.doing}: waiting for the handler of the other side to notice"):
                    await partner.wait_gone()
                left = await before.what_is_more(trial.patience)
                if left:
                    fault(f"{trial.doing}: it left {left}")
    return f"cancelled at {len(chosen)} of {steps} steps"


async def _dial_until(trial: Trial, at: int, steps: int) -> None:
    """Dial and talk, cancelled at that step."""
    trial.doing = f"dialling, sending, receiving and closing, cancelled at step {at} of {steps}"
    with trio.CancelScope(deadline=trio.current_time() + trial.patience) as bound:
        with interrupted(at):
            await _whole_story(trial)
    if bound.cancelled_caught:
        fault(f"{trial.doing}: it went on for {trial.patience:g} s")


async def _whole_story(trial: Trial) -> None:
    async with trial.transport.connect(trial.target) as pipe, trial.layer(pipe, dialler=True) as whole:
        await whole.stream.send_all(part("echo") + bytes(100))
        await exactly(whole.stream, len(GREETING) + 100)
        if isinstance(whole.stream, trio.abc.HalfCloseableStream):
            await whole.stream.send_eof()
            await whole.stream.receive_some(100)


async def cancelled_listeners_leave_nothing(trial: Trial) -> str:
    """Cancelled at any step, a listener leaves no task, descriptor or handler behind, nobody can dial it any more, and the place is free."""
    if trial.url is None:
        raise NotApplicable("the listener is in another process")
    async with trial.serving():
        pass
    before = Belongings.now()
    steps = 0
    for steps in range(1, trial.interruptions + 1):
        trial.doing = f"listening, cancelled at step {steps}"
        partner = Partner(trial.layer)
        came = await _listen_until(trial, partner, steps)
        left = await before.what_is_more(trial.patience)
        if left:
            fault(f"{trial.doing}: it left {left}")
        if partner.present:
            fault(f"{trial.doing}: {partner.present} handlers are still at work")
        if trial.many > 1:
            with trial.step(f"{trial.doing}: dialling {without_secrets(trial.target)} afterwards"):
                await _refused(trial.transport, trial.target, trial.target)
        if not came:  # it ended by itself before
            break
    return f"cancelled at each of {steps} steps"


async def _listen_until(trial: Trial, partner: Partner, at: int) -> bool:
    """Listen and take one call, with the listener cancelled at that step; whether it came to that."""
    started, over = Started(), trio.Event()
    interruptions: list[Interruption] = []

    async def listen() -> None:
        assert trial.url is not None
        try:
            with interrupted(at) as interruption:
                interruptions.append(interruption)
                await trial.transport.serve(trial.url, partner, task_status=started)
        finally:
            over.set()
            started.event.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        with trial.step(f"{trial.doing}: waiting for `started`, or for the end"):
            await started.event.wait()
        if not over.is_set():
            await _call(trial)
        nursery.cancel_scope.cancel()
    return interruptions[0].came


async def _call(trial: Trial) -> None:
    """One exchange with a listener that may go at any moment."""
    try:
        with trial.step(f"{trial.doing}: a call to it must come to an end"):
            async with trial.transport.connect(trial.target) as pipe, trial.layer(pipe, dialler=True) as whole:
                await whole.stream.send_all(part("echo") + b"!")
                await exactly(whole.stream, len(GREETING) + 1)
    except* (DialFailed, trio.BrokenResourceError, EndOfStream):
        pass


def _spread(last: int, most: int) -> list[int]:
    """Up to `most` numbers from 1 to `last`, evenly."""
    if last <= most:
        return list(range(1, last + 1))
    return sorted({round(1 + place * (last - 1) / (most - 1)) for place in range(most)})
