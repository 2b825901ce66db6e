"""`copy` and `pickle` of blocking proxies: a copy is made where the original is, a pickle is one of the value."""

from __future__ import annotations

from typing import Any

from rpyc_gateway.held import held_by
from rpyc_gateway.operands import fetch
from rpyc_gateway.proto.copies import DEEP, PICKLE

__all__ = ["copy_there", "deepcopy_there", "reduce_copy"]


def copy_there(proxy: object) -> Any:
    """`copy.copy(proxy)`: what `copy.copy` makes of the original, as a proxy again."""
    return held_by(proxy).op("__copy__")


def deepcopy_there(proxy: object, memo: dict[Any, Any]) -> Any:
    """`copy.deepcopy(proxy)`: what `copy.deepcopy` makes of the original, as a proxy again.

    The memo here has the one over there, so that what two proxies of a structure share is copied once.
    """
    held = held_by(proxy)
    key = (_MEMO, id(held.caller))
    copied, memo[key] = held.op("__deepcopy__", memo.get(key))
    return copied


_MEMO = "the memo over there"


def reduce_copy(proxy: object, protocol: Any = 2) -> Any:
    """How to pickle a proxy: as the value it stands for, which is obtained. Raises EncodeError, a TypeError, where it cannot be."""
    return fetch(proxy, DEEP | PICKLE).__reduce_ex__(max(int(protocol), 2))
