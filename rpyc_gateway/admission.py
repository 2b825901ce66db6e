"""What a node decides about an OPEN, as pure functions of what it carries: who asks, where it goes, whether it may."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from rpyc_gateway.errors import Code, GatewayError, error_for
from rpyc_gateway.proto.frames import LONGEST_PATH, LONGEST_TEXT, Failure, Hello, Open, Stamp
from rpyc_gateway.service import allows


def asked(name: str, target: str, service: str, via: object) -> Open:
    """The request of a program at the node `name`. Raises TypeError: what is not text cannot be asked for."""
    for what, kind, given in (("target", "node", target), ("service", "service", service)):
        if not isinstance(given, str):
            raise TypeError(f"`{what}` is a str, the name of a {kind}, not {type(given).__name__}")
    return Open(target=target, service=service, via=passed(via), path=(name,))


def passed(via: object) -> tuple[str, ...]:
    """The nodes that a program wants its circuit to pass. Raises TypeError: a str would be one node for each of its letters."""
    if type(via) is tuple and not via:  # as a rule
        return ()
    if isinstance(via, str) or not isinstance(via, Sequence) or not all(isinstance(node, str) for node in via):
        raise TypeError(f"`via` is a sequence of names of nodes, like ['relay'], not {str(via)[:80]!r}")
    return tuple(via)


def stamped(request: Open, peer: Hello, *, name: str, identity: str) -> Open:
    """The request with this node's stamp: from which peer it came, and what the transport knows of that peer.

    What a client claims of its origin and path counts for nothing.
    """
    stamp = Stamp(by=name, peer=peer.name, identity=identity)
    if not peer.announce:
        return replace(request, origin=(stamp,), path=(peer.name,))
    return replace(request, origin=(*request.origin, stamp))


def wanted(request: Open, name: str) -> tuple[str, Open]:
    """The node that the request goes to next from the node `name`, or "" if it has arrived.

    And the request without the `via` that have been passed.
    """
    via = request.via
    while via and via[0] == name:
        via = via[1:]
    node = via[0] if via else request.target
    return "" if node == name else node, request if via is request.via else replace(request, via=via)


def forwarded(request: Open, name: str) -> Open:
    """The request as the gateway `name` sends it on.

    Raises Unreachable (LOOP) if it may cross no more links, or has been here before.
    """
    if request.hops < 1:
        raise refusal(Code.LOOP, f"{name} forwards this circuit no further: its hop limit ran out", name)
    # The opener is not compared: it may be a client, whose name is nobody's. A loop through it ends one turn later.
    if name in request.path[1:]:
        raise refusal(
            Code.LOOP, f"{name} has forwarded this circuit before: {' -> '.join((*request.path, name))}", name
        )
    return replace(request, hops=min(request.hops, LONGEST_PATH) - 1, path=(*request.path, name))


def permitted(patterns: Sequence[str], origin: Sequence[Stamp]) -> bool:
    """Whether a policy lets this origin in.

    A parent is believed about its own parent: whoever started the process that started this one is "parent" as well.
    """
    started_us = bool(origin) and all(stamp.identity == "parent" for stamp in origin)
    return allows(patterns, origin) or ("parent" in patterns and started_us)


def asker(origin: Sequence[Stamp]) -> str:
    """Who asks, for people: the first stamp says it, the others vouch."""
    if not origin:
        return "this node"
    first = origin[0]
    identity = f" ({first.identity})" if first.identity else ""
    through = f" through {', '.join(stamp.by for stamp in origin[:-1])}" if len(origin) > 1 else ""
    return f"{first.peer}{identity}{through}"


def refusal(code: Code, text: str, hop: str) -> GatewayError:
    """An exception for a refusal of this node that travels as exactly this code."""
    error = error_for(code, text, hop)
    error.code = code
    return error


def failure_of(error: GatewayError, name: str) -> Failure:
    """What is sent for an error; the node `name` noticed it unless the error says another."""
    return Failure(code=error.code, text=str(error)[:LONGEST_TEXT], hop=error.hop or name)
