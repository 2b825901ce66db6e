"""Pickles in a session: only where both ends allow them, since whoever unpickles runs what the pickle says."""

from __future__ import annotations

import pickle

from rpyc_gateway.errors import Denied, EncodeError, ProtocolError
from rpyc_gateway.proto.rpc import Rpc

__all__ = ["FEATURE", "allows_pickles", "features_for", "pickle_for", "unpickle_for"]

FEATURE = "pickle"
"""What a side that allows it says among the `features` of its HELLO."""

_HERE = "pickle=True at connect, open_session or node.session, `pickle = true` where it serves"


def features_for(pickle: object) -> tuple[str, ...]:
    """What a side says that allows pickles, or does not. Raises TypeError: what says "no" in text must not be taken for a yes."""
    if pickle is True:
        return (FEATURE,)
    if pickle is not False:
        raise TypeError(f"`pickle` is True or False, not {str(pickle)[:80]!r}: a pickle can run any code")
    return ()


def allows_pickles(rpc: Rpc) -> bool:
    """Whether both sides of a session do."""
    return all(FEATURE in info.features for info in (rpc.info, rpc.peer or rpc.info))


def pickle_for(rpc: Rpc, value: object) -> bytes:
    """The pickle of a value for the peer. Raises Denied if one of the two does not allow it, EncodeError if it cannot be made."""
    missing = [info.name for info in (rpc.info, rpc.peer or rpc.info) if FEATURE not in info.features]
    if missing:
        raise Denied(f"Or it could be pickled, which {' and '.join(dict.fromkeys(missing))} must allow first ({_HERE})")
    try:
        return pickle.dumps(value, protocol=4)  # what every Python since 3.8 reads
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: what a `__reduce__` raises fails this value only
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise EncodeError(f"a {kind} cannot be pickled: {type(error).__qualname__}: {error}") from error


def unpickle_for(rpc: Rpc, data: bytes) -> object:
    """The value of a pickle that the peer sent. Raises Denied if that is not allowed here, ProtocolError if it cannot be read."""
    if FEATURE not in rpc.info.features:
        raise Denied(f"a pickle came, and {rpc.info.name} takes none ({_HERE})")
    try:
        return pickle.loads(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ProtocolError(f"a pickle cannot be read: {type(error).__qualname__}: {error}") from error
