"""Programs of steps (docs/protocol.md, section 9), written for the peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rpyc_gateway.errors import LimitExceeded
from rpyc_gateway.proto.atoms import FLAT, UNPACKABLE, all_flat, pack, pack_atoms
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.proto.values import Draft, Writer

__all__ = ["STEPS", "Step", "Steps", "draft_steps", "write_steps"]

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
