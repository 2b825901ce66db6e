"""Programs as they are written: the short way and the long one make the same message."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import EncodeError, LimitExceeded
from rpyc_gateway.proto.copies import Copied
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import LARGE, Draft, Result, Writer
from rpyc_gateway.steps import STEPS, Step, draft_steps, write_steps


class Level(IntEnum):
    LOW = 1


class Name(str):
    """A str to isinstance, with a class of its own."""

    __slots__ = ()


def writer() -> Writer:
    return Writer(lambda thing: thing)


def long_way(steps: list[Step]) -> Draft:
    one = writer()
    return one.finish(write_steps(steps, one))


THING = object()
operands = st.sampled_from(
    [
        *(None, True, 0, 1, -1, 2**64 - 1, 2**64, 1.5, "", "é", "\ud800", b"", b"x" * (LARGE + 1), "y" * 9000),
        *((), (1, "a"), ((1,), b"x"), frozenset({1}), slice(1), range(3), ..., 1j),
        *(Level.LOW, Name("x"), THING, [1], Result(1), Copied([1])),
    ]
)
names = st.sampled_from(["a", "é", "self", "__len__"])
several = st.lists(operands, max_size=4).map(tuple)
steps = st.one_of(
    st.tuples(st.just(Verb.GET), st.just(0), names),
    st.tuples(st.just(Verb.SET), st.just(0), names, operands),
    st.tuples(st.just(Verb.DEL), st.just(0), names),
    st.tuples(st.just(Verb.CALL), st.just(0), several, st.dictionaries(names, operands, max_size=3)),
    st.tuples(st.just(Verb.OP), st.just(0), names, several),
    st.tuples(st.just(Verb.TAKE), st.just(0), st.just(5)),
    st.tuples(st.just(Verb.VALUE), st.just(0), operands),
    st.tuples(st.just(Verb.COPY), st.just(0), st.just(1)),
    st.tuples(st.just(Verb.ITER), st.just(0), st.just(5), st.just(1)),
    st.tuples(st.just(Verb.ENTER), st.just(0)),
)


@given(st.lists(steps, max_size=4))
def test_every_program_has_the_bytes_that_the_long_way_gives_it(program: list[Step]) -> None:
    assert draft_steps(program, writer) == long_way(program)


def test_a_program_of_atoms_needs_no_writer() -> None:
    def none() -> Writer:
        raise AssertionError("a writer was asked for")

    program: list[Step] = [(Verb.GET, 0, "path"), (Verb.CALL, 1, ("a", 1, None, True, 1.5), {"key": "b"})]
    assert draft_steps(program, none) == long_way(program)


@pytest.mark.parametrize("operand", [Level.LOW, Name("x")], ids=repr)
def test_what_only_looks_like_an_atom_goes_by_reference(operand: object) -> None:
    for program in ([(Verb.CALL, 0, (1, operand), {})], [(Verb.CALL, 0, (1,), {"key": operand})]):
        assert draft_steps(program, writer).refs == (operand,)
    assert draft_steps([(Verb.SET, 0, "x", operand)], writer).refs == (operand,)
    assert draft_steps([(Verb.OP, 0, "add", (operand,))], writer).refs == (operand,)


def test_too_many_steps_are_refused_before_any_is_written() -> None:
    program: list[Any] = [(Verb.GET, 0, "x")] * STEPS
    assert draft_steps(program, writer) == long_way(program)
    with pytest.raises(LimitExceeded):
        draft_steps([*program, (Verb.GET, 0, "x")], writer)


def test_a_name_that_cannot_be_written_is_our_error() -> None:
    with pytest.raises(EncodeError, match="name"):
        draft_steps([(Verb.GET, 0, "\ud800")], writer)
