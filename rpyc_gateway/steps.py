"""Programs of steps (docs/protocol.md, section 9), written for the peer; and the small ones of a peer, told at a glance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.atoms import ATOMS, FLAT, UNPACKABLE, all_flat, pack, pack_atoms
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import UNREADABLE, Draft, Payload, Writer, read_structure, unpack

__all__ = ["CALL", "MORE_STEPS", "STEPS", "Step", "Steps", "draft_steps", "method_read", "plain_step", "write_steps"]

STEPS = 64
"""Steps of one program: an expression somebody wrote, not a loop."""

Step = tuple[Any, ...]
"""(verb, source, operands...): GET name · SET name, value · DEL name · CALL args, kwargs · OP name, args · TAKE n · VALUE value · COPY flags · ITER quiet, most · ENTER flags."""


Steps = Sequence[Step] | Draft
"""A program as somebody wrote it, or packed already."""


def draft_steps(steps: Steps, open_writer: Callable[[], Writer]) -> Draft:
    """A program, packed. Raises EncodeError for an operand that cannot be sent, LimitExceeded beyond STEPS."""
    if isinstance(steps, Draft):
        return steps
    if len(steps) == 1:
        step = steps[0]
        if step[0] is CALL and not step[3] and FLAT.issuperset(map(type, step[2])):  # as a rule
            try:
                return Draft(pack(((_CALL, step[1], step[2], ()),)))
            except UNPACKABLE:
                pass  # an integer or a text that a Writer knows how to send
    packed = _pack_plainly(steps)
    if packed is not None:
        return Draft(packed)
    writer = open_writer()
    return writer.finish(write_steps(steps, writer))


def _pack_plainly(steps: Sequence[Step]) -> bytes | None:
    """A program whose operands are all atoms, as most are; None if it needs a Writer. The bytes are the same."""
    if len(steps) > STEPS:
        return None
    written: list[Step] = []
    for step in steps:
        verb = step[0]
        if verb is Verb.GET:
            written.append((_GET, *step[1:]))
        elif verb is Verb.CALL:
            _, source, args, kwargs = step
            if kwargs:
                args = (*args, *kwargs.values())
            if not all_flat(args):
                return None
            written.append((_CALL, source, args, tuple(kwargs)))
        elif (verb is Verb.OP and not all_flat(step[3])) or (verb in _SINGLE and not all_flat(step[2:])):
            return None
        else:
            written.append(step)
    return pack_atoms(written)


_GET, _CALL = int(Verb.GET), int(Verb.CALL)  # an enum takes longer to be packed
CALL = Verb.CALL  # and an attribute of its class to be read
_SINGLE = frozenset({Verb.SET, Verb.VALUE})


def write_steps(steps: Sequence[Step], writer: Writer) -> list[Any]:
    """The packed structure of a program. Raises EncodeError for an operand that cannot be sent, LimitExceeded beyond STEPS."""
    if len(steps) > STEPS:
        raise LimitExceeded(f"an expression of {len(steps)} steps exceeds limit of {STEPS}: await a part of it first")
    return [_WRITE[step[0]](step, writer) for step in steps]


def _write_call(step: Step, writer: Writer) -> list[Any]:
    verb, source, args, kwargs = step
    value = writer.value
    return [verb, source, [value(arg) for arg in (*args, *kwargs.values())], list(kwargs)]


def _write_op(step: Step, writer: Writer) -> list[Any]:
    verb, source, name, args = step
    return [verb, source, name, [writer.value(arg) for arg in args]]


def _write_plain(step: Step, writer: Writer) -> list[Any]:
    return list(step)


_WRITE: dict[Verb, Callable[[Step, Writer], list[Any]]] = {
    Verb.GET: _write_plain,
    Verb.SET: lambda step, writer: [*step[:3], writer.value(step[3])],
    Verb.DEL: _write_plain,
    Verb.CALL: _write_call,
    Verb.OP: _write_op,
    Verb.TAKE: _write_plain,
    Verb.VALUE: lambda step, writer: [*step[:2], writer.value(step[2])],
    Verb.COPY: _write_plain,
    Verb.ITER: _write_plain,
    Verb.ENTER: _write_plain,
}


# -- what programs of a peer are, as a rule -------------------------------------------------------------------------------


def plain_step(payload: Payload) -> list[Any] | str | None:
    """The operand of a program of one step, as most are: what the target is called with, if atoms without names; or the name that is read of it.

    None for any other program.
    """
    packed = payload.packed
    is_call = packed.startswith(_CALL_OF_TARGET)
    if not (is_call or packed.startswith(_GET_OF_TARGET)) or payload.refs or payload.bodies:
        return None
    try:
        if is_call:
            ((_, _, args, names),) = unpack(packed)
            return args if names == [] and type(args) is list and ATOMS.issuperset(map(type, args)) else None
        ((_, _, name),) = unpack(packed)
        return name if type(name) is str else None
    except (*UNREADABLE, ValueError):
        return None  # whoever runs it says what is wrong


_CALL_OF_TARGET, _GET_OF_TARGET = b"\x91\x94\x03\x00", b"\x91\x93\x00\x00"
"""How such programs begin as MessagePack writes them: one step, which has so many items. (They may be written in other ways too.)"""


READING = 300
"""Bytes of a program that may be a reading of a method: names are shorter."""


def method_read(payload: Payload) -> str | None:
    """The name, if a program does nothing but read one attribute of its target; else None."""
    packed = payload.packed
    if payload.bodies or payload.refs or len(packed) > READING or packed[:2] == _ONE_CALL or packed[:1] in MORE_STEPS:
        return None
    try:
        match read_structure(packed):
            case [[Verb.GET, 0, str() as name]]:
                return name
    except ProtocolError:  # whoever runs it says so
        pass
    return None


# What most programs begin with that are no such reading, as MessagePack writes it. (It may be written in other ways too.)
_ONE_CALL = b"\x91\x94"  # an array of one step, which has four items
MORE_STEPS = frozenset(bytes([0x90 + steps]) for steps in range(2, 16))
