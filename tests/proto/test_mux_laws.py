"""Laws of a pair of machines: whatever is opened, sent, ended, consumed, pulled and delivered, in any order and in any pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import Code, LimitExceeded
from rpyc_gateway.proto import credit as credit_module
from rpyc_gateway.proto import framing as framing_module
from rpyc_gateway.proto import mux as mux_module
from rpyc_gateway.proto import stream as stream_module
from rpyc_gateway.proto import streams as streams_module
from rpyc_gateway.proto.events import Accepted, Drained, Finished, Lost, Opened, Received, Refused, Reset, Stopped
from rpyc_gateway.proto.frames import CircuitClass, Failure, Limits, Open
from tests.proto.pair import Pair, Side, pair, pulled

WINDOW = 600  # small, so that credit is always an issue
LARGEST = 2400
BUDGET = 5000
LARGE = 50  # so that frames come in pieces, and leave in buffers of their own
LIMITS = Limits(frame=256, streams=4, early_stream=100, early_link=250)
OVER = Failure(Code.CANCELLED, "enough", "test")


@dataclass
class End:
    """What one side knows of one stream."""

    label: int
    mine: bool
    sent: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    drained: int = 0
    consumed: int = 0
    answered: bool = False
    finished: bool = False  # by this side
    heard_end: bool = False  # FIN of the other side
    listening: bool = True
    intact: bool = True  # nothing was dropped on purpose, at either end
    over: int = 0  # how often it was told that this is the end


class World:
    """The pair, and all ends that ever were; `checked` after every step."""

    def __init__(self) -> None:
        self.pair: Pair = pair(LIMITS, LIMITS)
        self.ends: dict[str, dict[int, End]] = {"near": {}, "far": {}}
        self.past: list[tuple[End, End]] = []
        self.grants: dict[tuple[str, int], int] = {}
        self.made = 0

    def side(self, name: str) -> Side:
        return self.pair.near if name == "near" else self.pair.far

    def living(self, name: str) -> list[End]:
        return [end for end in self.ends[name].values() if not end.over]

    def twin(self, name: str, label: int) -> End | None:
        return self.ends["far" if name == "near" else "near"].get(label)

    # -- what may happen

    def open(self, name: str, _end: None, kind: int) -> None:
        try:
            label = self.side(name).mux.open(Open(), CircuitClass(kind % 4))
        except LimitExceeded:
            return
        self.ends[name][label] = End(label, mine=True)

    def accept(self, name: str, end: End, _: int) -> None:
        if not end.mine:
            end.answered = True
            self.side(name).mux.accept(end.label, ())

    def reject(self, name: str, end: End, _: int) -> None:
        if not end.mine and not end.answered:
            self.side(name).mux.reject(end.label, OVER)
            self.drop(name, end)

    def send(self, name: str, end: End, size: int) -> None:
        if not end.finished:
            self.made += 1
            data = bytes([self.made % 251]) * size
            end.sent += data
            self.side(name).mux.send(end.label, memoryview(data) if size % 2 else data)

    def finish(self, name: str, end: End, _: int) -> None:
        end.finished = True
        self.side(name).mux.finish(end.label)

    def reset(self, name: str, end: End, _: int) -> None:
        self.side(name).mux.reset(end.label, OVER)
        self.drop(name, end)

    def stop(self, name: str, end: End, _: int) -> None:
        end.listening = False
        self.side(name).mux.stop(end.label, OVER)

    def consume(self, name: str, end: End, count: int) -> None:
        count = min(count, len(end.got) - end.consumed)
        end.consumed += count
        self.side(name).mux.consume(end.label, count)

    def pull(self, name: str, _end: None, limit: int) -> None:
        self.pair.pull(self.side(name), limit + 1)
        self.hear(name)

    def deliver(self, name: str, _end: None, count: int) -> None:
        self.pair.deliver(self.side(name), count * 4)
        self.hear(name)

    # -- what is heard

    def hear(self, name: str) -> None:
        for event in self.side(name).listen():
            assert not isinstance(event, Lost), event
            if isinstance(event, Opened):
                self.ends[name][event.label] = End(event.label, mine=False)
                continue
            end = self.ends[name][event.label]  # type: ignore[attr-defined]
            self.note(name, end, event)

    def note(self, name: str, end: End, event: Any) -> None:
        if isinstance(event, Drained):
            end.drained += event.count
            return
        assert not end.over, f"{event} after the end"
        if isinstance(event, Received):
            assert end.listening
            end.got += event.data
        elif isinstance(event, Accepted):
            assert not end.answered
            end.answered = True
        elif isinstance(event, Finished):
            assert not end.heard_end
            end.heard_end = True
        elif isinstance(event, Stopped):
            end.intact = False
            self.finish(name, end, 0)
        elif isinstance(event, (Refused, Reset)):
            self.drop(name, end)

    def drop(self, name: str, end: End) -> None:
        end.over += 1
        end.intact = False
        twin = self.twin(name, end.label)
        if twin is not None:
            twin.intact = False

    # -- what always holds

    def check(self) -> None:
        for name, other in (("near", "far"), ("far", "near")):
            mux = self.side(name).mux
            assert mux.up
            early = 0
            for label, end in self.ends[name].items():
                twin = self.ends[other].get(label)
                if twin is not None:
                    assert twin.sent.startswith(end.got)
                assert len(end.got) - end.consumed <= LARGEST
                assert end.drained + mux.queued(label) <= len(end.sent)
                if not end.over:
                    assert end.drained + mux.queued(label) == len(end.sent)
                if not end.mine and not end.answered and not end.over:
                    assert len(end.got) <= LIMITS.early_stream
                    early += len(end.got)
            assert early <= LIMITS.early_link
            unconsumed = [len(end.got) - end.consumed for end in self.ends[name].values() if end.intact]
            assert sum(unconsumed) <= BUDGET + len(unconsumed) * WINDOW
            for label, stream in mux._table.items():
                granted = stream.granted if stream.answered or stream.mine else 0
                assert granted >= self.grants.get((name, label), 0)
                self.grants[name, label] = granted
                assert stream.received <= stream.granted

    def come_to_rest(self) -> None:
        """Everything is answered, consumed and finished: then all that was sent has arrived."""
        moving = True
        while moving:
            before = [len(end.got) for ends in self.ends.values() for end in ends.values()]
            self.pair.exchange()
            for name in ("near", "far"):
                self.hear(name)
                for end in self.living(name):
                    self.accept(name, end, 0)
                    self.consume(name, end, len(end.got) - end.consumed)
                    self.finish(name, end, 0)
            self.check()
            after = [len(end.got) for ends in self.ends.values() for end in ends.values()]
            moving = before != after or self.side("near").mux.ready or self.side("far").mux.ready
        for name, other in (("near", "far"), ("far", "near")):
            assert self.side(name).mux.statistics().streams == 0
            for label, end in self.ends[name].items():
                twin = self.ends[other].get(label)
                assert end.over or end.heard_end
                if end.intact and end.listening and twin is not None and twin.intact:
                    assert end.got == twin.sent


STREAM_STEPS = ("accept", "reject", "send", "finish", "reset", "stop", "consume")
COMMON = ("send", "send", "consume", "accept")
WIRE_STEPS = ("open", "pull", "deliver", "pull", "deliver")
steps = st.lists(
    st.tuples(
        st.sampled_from(("near", "far")),
        st.sampled_from(STREAM_STEPS + COMMON + WIRE_STEPS * 2),
        st.integers(0, 7),
        st.integers(0, 400),
    ),
    max_size=80,
)


def play(world: World, story: list[tuple[str, str, int, int]]) -> None:
    for name, step, which, amount in story:
        if step in WIRE_STEPS:
            getattr(world, step)(name, None, amount)
        elif living := world.living(name):
            getattr(world, step)(name, living[which % len(living)], amount)
        world.check()


@pytest.fixture(autouse=True, scope="module")
def _small_window() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "WINDOW", WINDOW)
        patch.setattr(streams_module, "WINDOW", WINDOW)
        patch.setattr(credit_module, "WINDOW", WINDOW)
        patch.setattr(credit_module, "LARGEST", LARGEST)
        patch.setattr(credit_module, "NEAR", LARGEST)
        patch.setattr(credit_module, "BUDGET", BUDGET)
        patch.setattr(framing_module, "LARGE", LARGE)
        patch.setattr(mux_module, "LARGE", LARGE)
        patch.setattr(stream_module, "LARGE", LARGE)
        patch.setattr(stream_module, "CROWD", 2)
        patch.setattr(streams_module, "CROWD", 2)
        yield


@given(story=steps)
def test_what_arrives_is_what_was_sent_and_no_more_than_was_granted(story: list[tuple[str, str, int, int]]) -> None:
    world = World()
    play(world, story)
    world.come_to_rest()


@given(story=steps, broken=st.sampled_from(("near", "far")))
def test_every_stream_ends_exactly_once_when_the_link_is_lost(
    story: list[tuple[str, str, int, int]], broken: str
) -> None:
    world = World()
    play(world, story)
    living = {end.label for end in world.living(broken) if end.label in world.side(broken).mux._table}
    world.side(broken).mux.fail(Failure(Code.LINK_LOST, "connection reset by peer", broken))
    *resets, lost = world.side(broken).listen()
    assert isinstance(lost, Lost)
    assert sorted(event.label for event in resets if isinstance(event, Reset)) == sorted(living)
    assert len(resets) == len(living)


@given(story=steps, noise=st.binary(min_size=1, max_size=60))
def test_noise_in_the_middle_of_a_story_loses_the_link_and_nothing_else(
    story: list[tuple[str, str, int, int]], noise: bytes
) -> None:
    world = World()
    play(world, story)
    side = world.side("near")
    open_labels = set(side.mux._table)
    side.mux.receive_data(noise, world.pair.now)
    side.mux.receive_data(noise, world.pair.now)
    pulled(side.mux, world.pair.now)
    happened = side.listen()
    if side.mux.down:
        assert isinstance(happened[-1], Lost)
        ends = [event.label for event in happened if isinstance(event, (Reset, Refused))]
        assert len(ends) == len(set(ends))
        assert open_labels <= set(ends) | {event.label for event in happened if isinstance(event, Finished)}
    else:
        assert not any(isinstance(event, Lost) for event in happened)


def test_a_run_without_a_reset_delivers_everything() -> None:
    world = World()
    quiet: list[tuple[str, str, int, int]] = []
    for turn in range(30):
        quiet += [("near", "open", 0, turn), ("near", "send", turn, 399), ("far", "send", turn, 57)]
        quiet += [("near", "pull", 0, 300), ("far", "deliver", 0, 20), ("far", "accept", 0, 0), ("far", "pull", 0, 90)]
        quiet += [("near", "deliver", 0, 100), ("far", "consume", turn, 200)]
    play(world, quiet)
    world.come_to_rest()
    sent = sum(len(end.sent) for end in world.ends["near"].values())
    assert sum(len(end.got) for end in world.ends["far"].values()) == sent > 5000
