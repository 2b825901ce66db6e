"""What a codec is registered for travels by value; what a codec raises fails the value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rpyc_gateway.errors import EncodeError, NoCodec, ProtocolError
from rpyc_gateway.proto.codecs import add_reader, drop_codec, register, write_buffer
from rpyc_gateway.proto.copies import DEEP, PICKLE, Copied, write_parts
from rpyc_gateway.proto.values import LARGE, Draft, Payload, Reader, Writer


class Point:
    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return type(other) is Point and other.parts == self.parts

    def __hash__(self) -> int:
        return hash(self.parts)


def parts_of(point: Point) -> object:
    return point.parts


def point_of(parts: Any) -> Point:
    return Point(*parts)


@contextmanager
def codec(
    encode: Callable[[Any], object] = parts_of, decode: Callable[[Any], object] = point_of, name: str = "lab.Point"
) -> Iterator[None]:
    register(Point, encode, decode, name, write_parts)
    try:
        yield
    finally:
        drop_codec(Point, name)


def write(value: object) -> Draft:
    writer = Writer(lambda thing: thing)
    return writer.finish(writer.value(value))


def read(draft: Draft, node: str = "") -> Any:
    reader = Reader(Payload(draft.packed, (), tuple(map(bytes, draft.bodies))), draft.refs)
    reader.node = node
    return reader.read()


def test_a_registered_type_travels_by_value_wherever_it_occurs() -> None:
    with codec():
        point = Point(1, Point("x"), [2, {"a": 3}], b"y")
        for value in [point, (1, (point,)), slice(point), Copied([point], DEEP | PICKLE), Copied({Point(1): 1})]:
            draft = write(value)
            assert draft.refs == ()
            assert read(draft) == (value.value if isinstance(value, Copied) else value)


def test_only_the_exact_type_does() -> None:
    class Near(Point):
        pass

    near = Near(1)
    with codec():
        assert write(near).refs == (near,)


def test_what_it_holds_and_has_no_value_goes_by_reference() -> None:
    thing = object()
    with codec():
        (held,) = read(write(Point(thing))).parts
    assert held is thing


def test_long_bytes_and_views_travel_as_bodies_that_are_not_copied() -> None:
    data = bytes(range(256)) * 100
    with codec():
        draft = write(Point(data, memoryview(data), memoryview(bytearray(b"ab"))))
        assert draft.bodies[0] is data
        assert draft.bodies[1].obj is data  # type: ignore[union-attr]
        assert read(draft) == Point(data, data, b"ab")


def test_a_buffer_that_can_change_is_copied_where_nobody_waits_until_it_is_sent() -> None:
    buffer = bytearray(LARGE + 1)
    writer = Writer(lambda thing: thing)
    write_buffer(writer, memoryview(buffer))
    writer.snapshot = True
    write_buffer(writer, memoryview(buffer))
    write_buffer(writer, memoryview(bytes(buffer)))
    buffer[0] = 1
    assert [bytes(body)[0] for body in writer.bodies] == [1, 0, 0]
    write_buffer(writer, memoryview(buffer)[::2])
    assert len(writer.bodies) == 3  # in pieces, and short


def test_a_receiver_without_the_codec_says_which_one_and_who() -> None:
    with codec():
        draft = write((1, Point(2)))
    with pytest.raises(NoCodec, match=r"lab-7 has no codec 'lab\.Point'"):
        read(draft, "lab-7")
    assert write(point := Point(1)).refs == (point,)


@pytest.mark.parametrize("failure", [ValueError("no"), SystemExit(3), GeneratorExit(), RecursionError()])
def test_whatever_a_codec_raises_fails_the_value_with_a_typed_error(failure: BaseException) -> None:
    def fail(_value: object) -> Any:
        raise failure

    with codec(encode=fail), pytest.raises(EncodeError, match=r"lab\.Point") as caught:
        write(Point())
    assert caught.value.__cause__ is failure
    with codec():
        draft = write(Point(1))
    with codec(decode=fail), pytest.raises(ProtocolError, match=r"lab\.Point' of lab-7 cannot decode"):
        read(draft, "lab-7")


def test_ctrl_c_in_a_codec_is_ctrl_c() -> None:
    def interrupted(_value: object) -> Any:
        raise KeyboardInterrupt

    with codec(encode=interrupted), pytest.raises(KeyboardInterrupt):
        write(Point())


def test_a_codec_that_makes_its_own_type_comes_to_an_end() -> None:
    with codec(encode=lambda point: (point,)), pytest.raises(EncodeError, match="deeper than 64"):
        write(Point())


@pytest.mark.parametrize("kind", [int, str, tuple, frozenset, type(None), Point])
def test_nothing_is_registered_twice(kind: type) -> None:
    with codec(), pytest.raises(ValueError, match="by value already"):
        register(kind, parts_of, point_of, "other", write_parts)
    assert add_reader("other", lambda *_item: None)  # its name is free again
    drop_codec(None, "other")


@pytest.mark.parametrize("name", ["lab.Point", "list", "pickle", "", "x" * 201, "a\nb"])
def test_a_name_is_given_once_and_can_be_printed(name: str) -> None:
    class Other:
        pass

    with codec(), pytest.raises(ValueError, match="name"):
        register(Other, parts_of, point_of, name, write_parts)
    assert len(write(Other()).refs) == 1
