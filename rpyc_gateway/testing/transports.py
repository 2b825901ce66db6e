"""For tests, yours too: does a transport keep the contract of `rpyc_gateway.transport`? `check_transport` says where it does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

import trio

from rpyc_gateway.testing import listener_rules, pipe_rules
from rpyc_gateway.testing.partner import EndOfStream, Layer, as_it_is
from rpyc_gateway.testing.trial import NotApplicable, TransportFault, Trial
from rpyc_gateway.transport import Transport, find_transport, without_secrets

__all__ = ["RULES", "TransportFault", "check_transport"]

Rule: TypeAlias = Callable[[Trial], Awaitable[str]]

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        listener_rules.facts_are_facts,
        listener_rules.wrong_urls_are_said_to_be_wrong,
        listener_rules.nobody_there_is_said,
        pipe_rules.both_ways_at_once,
        pipe_rules.pieces_of_all_sizes,
        pipe_rules.half_closed_it_still_hears,
        pipe_rules.slow_reader_stops_the_writer,
        pipe_rules.orderly_end_loses_nothing,
        pipe_rules.vanished_peer_is_noticed,
        pipe_rules.closing_twice_is_closing,
        pipe_rules.any_thread_sends_and_receives,
        pipe_rules.stream_keeps_the_contract_of_trio,
        listener_rules.many_at_once_are_kept_apart,
        listener_rules.failing_handler_hurts_nobody,
        listener_rules.cancelled_dials_leave_nothing,
        listener_rules.cancelled_listeners_leave_nothing,
    )
}
"""What is checked, by name; the first sentence of each says what the rule is."""


async def check_transport(
    url: str | None,
    *,
    dial: str | Callable[[str], str] | None = None,
    transport: Transport | None = None,
    layer: Layer = as_it_is,
    rules: Sequence[str] = tuple(RULES),
    wrong: Sequence[str] = (),
    many: int = 50,
    buffered: int | None = None,
    patience: float = 10.0,
    interruptions: int = 1000,
) -> dict[str, str]:
    """Serve at `url`, dial `dial` (if it is None, what `started` says; if it is a function, what that makes of it), and hold the transport to all `rules`, or to those that are named.

        await check_transport("tcp://127.0.0.1:0", wrong=["tcp://relay"])

    If `url` is None, the other end is in another process, behind `dial`, where it says `python -m rpyc_gateway.testing serve URL`.
    `transport` is found by the URL unless it is given. `layer` goes between each pipe and its user: for an unreliable transport, what
    makes it reliable. `wrong` are URLs that `check` must refuse. `many` connections are made at once: 1 for a line that has one pipe.
    A writer to whom nobody listens must wait after `buffered` bytes (32 MiB, or two seconds of what `rate` says). Nothing may take longer
    than `patience` seconds; sizes follow `rate`. Cancellation is tried at each step, at `interruptions` of them at most.

    Returns what was seen, by rule. Raises TransportFault, an AssertionError, with one sentence for each rule that was broken. It needs trio's
    real clock for real input and output, and that nothing else happens in this trio run: tasks and descriptors are counted.
    """
    somewhere = url or dial
    if not isinstance(somewhere, str):
        raise ValueError("check_transport needs a URL to serve at, or one to dial")
    for name in rules:
        if name not in RULES:
            raise ValueError(f"there is no rule {name!r} (there are: {', '.join(RULES)})")
    transport = transport or find_transport(somewhere)
    seen: dict[str, str] = {}
    faults: list[str] = []
    for name in rules:
        trial = Trial(transport, url, dial, layer, many, buffered, patience, interruptions, tuple(wrong))
        try:
            seen[name] = await RULES[name](trial)
        except Exception as exc:  # noqa: BLE001  whatever it is, it is what this is about
            leaf = _most_telling(exc)
            if isinstance(leaf, NotApplicable):
                seen[name] = f"not asked: {leaf}"
            else:
                faults.append(f"{name}: {_sentence(leaf, trial)}")
    if faults:
        raise TransportFault(
            "\n".join(
                [f"{without_secrets(somewhere)} breaks {len(faults)} of {len(seen) + len(faults)} rules:", *faults]
            )
        )
    return seen


def _most_telling(exc: BaseException) -> BaseException:
    """One exception out of a group: what came out of the transport, else what was put into words, rather than a stream that broke with it."""
    consequences = (trio.BrokenResourceError, trio.ClosedResourceError, EndOfStream)
    return min(_leaves(exc), key=lambda leaf: (isinstance(leaf, consequences), isinstance(leaf, TransportFault)))


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for part in exc.exceptions:
            yield from _leaves(part)
    else:
        yield exc


def _sentence(exc: BaseException, trial: Trial) -> str:
    return str(exc) if isinstance(exc, TransportFault) else f"{trial.doing}: {type(exc).__name__}: {exc}"
