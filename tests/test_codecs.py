"""Types that users register travel by value through sessions; numpy arrays with one call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import rpyc_gateway as gw
from rpyc_gateway.codecs import register_numpy
from rpyc_gateway.program import Done
from rpyc_gateway.proto import codecs, values
from rpyc_gateway.proxy import Proxy
from tests.house import HOPS, open_house, open_lab
from tests.telling import Costs, settled, told


class Point:
    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return type(other) is Point and (other.x, other.y) == (self.x, self.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(codecs._CODED), dict(values.WRITERS)
    yield
    for table, known in zip((codecs._CODED, values.WRITERS), before, strict=True):
        table.clear()
        table.update(known)  # type: ignore[arg-type]


def register() -> None:
    gw.register_codec(Point, lambda point: (point.x, point.y), lambda parts: Point(*parts))


@HOPS
async def test_a_registered_type_goes_by_value_as_argument_result_and_part(hops: int) -> None:
    register()

    def story(lab: Any, costs: Costs) -> None:
        swap = lab.eval("lambda p: type(p)(p.y, p.x)")
        costs.calls()
        swapped = swap(Point(1, (2, b"z" * 20_000)))
        assert costs.calls() == 1
        assert type(swapped) is Point
        assert swapped == Point((2, b"z" * 20_000), 1)
        assert lab.eval("lambda *a, **k: (a, tuple(k.values()))")((Point(1, 2),), k=Point(3, 4)) == (
            ((Point(1, 2),),),
            (Point(3, 4),),
        )
        assert gw.obtain(lab.eval("lambda p: {p: [p]}")(Point(1, 2))) == {Point(1, 2): [Point(1, 2)]}
        assert lab.eval("lambda p: p.x")(Point([1], 2)) == [1]
        assert lab.eval("{1}") | {2} == {1, 2}

    await told(story, hops=hops)


async def test_a_side_without_the_codec_is_named_and_the_session_goes_on() -> None:
    register()
    async with open_lab() as lab:
        identity = await lab.eval("lambda x: x")
        read = codecs._CODED.pop("tests.test_codecs.Point")
        # Both ends are this process: nobody can read it now, and the far side is the first that must.
        with pytest.raises(gw.NoCodec, match=r"lab has no codec 'tests\.test_codecs\.Point'"):
            await identity(Point(1, 2))
        with pytest.raises(gw.NoCodec, match="hq has no codec"):
            await lab.eval("__import__('tests.test_codecs', fromlist='x').Point(1, 2)")
        codecs._CODED["tests.test_codecs.Point"] = read
        assert await identity(Point(1, 2)) == Point(1, 2)
        await lab.ping()
        del identity
        await settled(lab)


async def test_what_a_codec_raises_fails_its_call_and_nothing_else() -> None:
    def fail(value: Any) -> Any:
        if "fail" in (value if type(value) is tuple else (value.x, value.y)):
            raise SystemExit(3)
        return (value.x, value.y) if type(value) is Point else Point(*value)

    gw.register_codec(Point, fail, fail)
    async with open_lab() as lab:
        await lab.execute("from tests.test_codecs import Point")
        identity = await lab.eval("lambda x: x")
        with pytest.raises(gw.EncodeError, match=r"Point' cannot encode a Point: SystemExit: 3"):
            await identity(Point("fail", 0))
        with pytest.raises(gw.EncodeError, match="cannot encode"):
            await lab.eval("Point('fail', 0)")
        values.WRITERS[Point] = lambda writer, _value, _depth: writer.coded("tests.test_codecs.Point", ["fail", 0])
        with pytest.raises(gw.ProtocolError, match="of lab cannot decode"):
            await identity(Point(1, 2))
        with pytest.raises(gw.ProtocolError, match="of hq cannot decode"):
            await lab.eval("Point(1, 2)")
        assert await identity(1) == 1
        del identity
        await settled(lab)


def test_what_cannot_be_registered() -> None:
    register()
    with pytest.raises(ValueError, match="Point travels by value already"):
        register()
    with pytest.raises(ValueError, match="taken"):
        gw.register_codec(np.ndarray, str, str, name="tests.test_codecs.Point")
    for builtin in (int, str, tuple, frozenset, type(None)):
        with pytest.raises(ValueError, match="by value already"):
            gw.register_codec(builtin, lambda value: value, lambda value: value)
    for reference in (type, Proxy):
        with pytest.raises(ValueError, match="references"):
            gw.register_codec(reference, lambda value: value, lambda value: value)
    with pytest.raises(TypeError, match="not for 'Point'"):
        gw.register_codec("Point", str, str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        gw.register_codec(set, None, str)  # type: ignore[arg-type]


def test_of_many_threads_that_register_one_succeeds() -> None:
    outcomes: list[str] = []
    barrier = threading.Barrier(8)

    def attempt() -> None:
        barrier.wait()
        try:
            register()
            outcomes.append("done")
        except ValueError:
            outcomes.append("refused")

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["done", *["refused"] * 7]


# -- numpy --------------------------------------------------------------------------------------------------------------

ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12).reshape(3, 4)),
    np.arange(12)[::-2],
    np.array(5),
    np.zeros((0, 3), "f4"),
    np.array(["a", "bc"]),
    np.array([1, 2], ">i4"),
    np.array(["2024-01-01"], "M8[D]"),
    np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
    np.array([True, False]),
    np.array([1 + 2j]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
async def test_arrays_of_any_kind_arrive_as_they_were(array: Any) -> None:
    register_numpy()

    def story(lab: Any) -> None:
        came = lab.eval("lambda x: x")(array)
        assert type(came) is np.ndarray
        assert (came.dtype, came.shape) == (array.dtype, array.shape)
        assert np.array_equal(came, array)
        assert came.flags.writeable
        assert came.flags.f_contiguous == array.flags.f_contiguous or not array.flags.forc
        array.flags.writeable = False
        assert not lab.eval("lambda x: x")(array).flags.writeable
        array.flags.writeable = True

    await told(story)


@HOPS
async def test_arrays_are_obtained_delivered_and_computed_with(hops: int) -> None:
    register_numpy()

    def story(lab: Any, costs: Costs) -> None:
        numpy = lab.eval("__import__('numpy')")
        big = np.arange(100_000.0)
        costs.calls()
        there = gw.deliver(lab, {"a": [big]})
        assert costs.calls() == 1
        assert np.array_equal(gw.obtain(there)["a"][0], big)
        assert costs.calls() == 1
        assert numpy.sum(big) == big.sum()
        assert type(numpy.float32(1.5)) is np.float32
        assert numpy.datetime64("2024-01-01") == np.datetime64("2024-01-01")
        with pytest.raises(gw.EncodeError, match="array of objects"):
            gw.deliver(lab, np.array([object()]))

    await told(story, hops=hops)


def test_a_large_array_is_written_without_a_copy_and_read_with_at_most_one() -> None:
    register_numpy()
    array = np.arange(100_000.0)
    writer = values.Writer(lambda thing: thing)
    (body,) = (draft := writer.finish(writer.value(array))).bodies
    assert np.shares_memory(np.frombuffer(body, "f8"), array)
    array.flags.writeable = False
    writer = values.Writer(lambda thing: thing)
    writer.snapshot = True
    (body,) = (fixed := writer.finish(writer.value(array))).bodies
    assert np.shares_memory(np.frombuffer(body, "f8"), array)
    came = bytes(body)
    read = values.Reader(values.Payload(fixed.packed, (), (came,))).read()
    assert np.shares_memory(read, np.frombuffer(came, "f8"))
    assert not np.shares_memory(
        values.Reader(values.Payload(draft.packed, (), (came,))).read(), np.frombuffer(came, "f8")
    )


async def test_an_answer_does_not_change_while_it_is_sent() -> None:
    register_numpy()
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        await lab.ping()
        far = next(iter(nodes[1]._serving._sessions.values()))[0]
        frame = np.zeros(100_000)
        draft, _ = far._answering._outcome_draft(Done(frame), 0)
        frame[:] = 1  # served code goes on with its buffer
        assert not np.frombuffer(draft.bodies[0]).any()


async def test_clients_of_one_node_need_not_know_who_registered_numpy_first() -> None:
    def story(lab: Any) -> None:
        for _client in range(2):
            lab.eval("__import__('rpyc_gateway.codecs').codecs.register_numpy()")
        assert type(lab.eval("__import__('numpy').float32(1.5)")) is np.float32

    await told(story)
