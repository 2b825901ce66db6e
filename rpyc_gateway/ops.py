"""What has no dotted spelling in trio code: `await gw.ops.len(proxy)`, `await gw.ops.setattr(proxy, "x", 1)`.

Mirrors `operator` and the builtins, for proxies of either face. Each function records one step, to be awaited like any other
expression or used in one. Operators ask both operands, in one message, as Python does it where their originals live.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from rpyc_gateway.async_proxy import AsyncProxy, record_op
from rpyc_gateway.async_proxy import iterate as _iterate
from rpyc_gateway.classes import RemoteObject, described
from rpyc_gateway.delivery import sent_later
from rpyc_gateway.iteration import MOST, Iteration
from rpyc_gateway.likeness import ancestors
from rpyc_gateway.proto.messages import ClassInfo, Verb

__all__ = [
    "abs",
    "add",
    "aiter",
    "and_",
    "anext",
    "awaited",
    "bool",
    "bytes",
    "call",
    "ceil",
    "complex",
    "concat",
    "contains",
    "copy",
    "countOf",
    "deepcopy",
    "delattr",
    "delitem",
    "dir",
    "divmod",
    "eq",
    "float",
    "floor",
    "floordiv",
    "format",
    "fspath",
    "ge",
    "getattr",
    "getitem",
    "gt",
    "hasattr",
    "hash",
    "iadd",
    "iand",
    "iconcat",
    "ifloordiv",
    "ilshift",
    "imatmul",
    "imod",
    "imul",
    "index",
    "indexOf",
    "int",
    "invert",
    "ior",
    "ipow",
    "irshift",
    "is_",
    "is_not",
    "isinstance",
    "isub",
    "iter",
    "iterate",
    "itruediv",
    "ixor",
    "le",
    "len",
    "length_hint",
    "lshift",
    "lt",
    "matmul",
    "mod",
    "mul",
    "ne",
    "neg",
    "next",
    "not_",
    "or_",
    "pos",
    "pow",
    "repr",
    "reversed",
    "round",
    "rshift",
    "setattr",
    "setitem",
    "str",
    "sub",
    "truediv",
    "trunc",
    "truth",
    "type",
    "xor",
]

# -- attributes and calls -----------------------------------------------------------------------------------------------


def setattr(proxy: Any, name: builtins.str, value: object) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `proxy.name = value`."""
    return record_op(proxy, Verb.SET, name, value)


def delattr(proxy: Any, name: builtins.str) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `del proxy.name`."""
    return record_op(proxy, Verb.DEL, name)


def getattr(proxy: Any, name: builtins.str) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `proxy.name`, for names that are no identifiers or begin and end with underscores."""
    return record_op(proxy, Verb.GET, name)


async def hasattr(proxy: Any, name: builtins.str) -> builtins.bool:  # noqa: A001  # mirrors the builtin
    """Whether `proxy.name` raises no AttributeError: one round trip."""
    try:
        await record_op(proxy, Verb.GET, name)
    except AttributeError:
        return False
    return True


def call(proxy: Any, /, *args: object, **kwargs: object) -> AsyncProxy:
    """Record `proxy(*args, **kwargs)`, for a proxy of blocking code too."""
    return record_op(proxy, Verb.CALL, args, kwargs)


def type(proxy: Any) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `proxy.__class__`."""
    return record_op(proxy, Verb.GET, "__class__")


async def isinstance(proxy: Any, classes: Any) -> builtins.bool:  # noqa: A001  # mirrors the builtin
    """Whether the original is an instance of a class of either side, or of one of a tuple of them.

    No round trip for what is held already, one for an expression, as its class is known by name here; a class of a board is asked. Abstract classes know their
    members by inheritance only.
    """
    value = await proxy if builtins.isinstance(proxy, AsyncProxy) else proxy
    kinds = classes if builtins.isinstance(classes, tuple) else (classes,)
    info = described(value)
    for kind in kinds:
        theirs = described(kind)
        if theirs is not None and not theirs.flags & ClassInfo.IS_CLASS and "__instancecheck__" in theirs.special:
            judged = builtins.bool(
                await record_op(kind, Verb.OP, "__instancecheck__", (value,))
            )  # what stands for a class
        elif info is not None:
            judged = _is_instance(info, kind)
        else:
            judged = theirs is None and builtins.isinstance(value, kind)
        if judged:
            return True
    return False


def _is_instance(info: ClassInfo, kind: Any) -> builtins.bool:
    theirs = described(kind)
    if theirs is not None:
        return not info.flags & ClassInfo.IS_CLASS and info.derives_from(theirs)
    found = (builtins.type,) if info.flags & ClassInfo.IS_CLASS else ancestors(info)
    return any(issubclass(ancestor, kind) for ancestor in found)


# -- items and iterators ------------------------------------------------------------------------------------------------


def getitem(proxy: Any, key: object) -> AsyncProxy:
    """Record `proxy[key]`."""
    return record_op(proxy, Verb.OP, "__getitem__", (key,))


def setitem(proxy: Any, key: object, value: object) -> AsyncProxy:
    """Record `proxy[key] = value`."""
    return record_op(proxy, Verb.OP, "__setitem__", (key, value))


def delitem(proxy: Any, key: object) -> AsyncProxy:
    """Record `del proxy[key]`."""
    return record_op(proxy, Verb.OP, "__delitem__", (key,))


def contains(proxy: Any, item: object) -> AsyncProxy:
    """Record `item in proxy`."""
    return record_op(proxy, Verb.OP, "__contains__", (item,))


def next(proxy: Any, *default: object) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `next(proxy)`; at the end StopAsyncIteration is raised, or `default` the result."""
    return record_op(proxy, Verb.OP, "__next__", default)


def anext(proxy: Any, *default: object) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record the next item of an async iterator; at the end StopAsyncIteration is raised, or `default` the result."""
    return record_op(proxy, Verb.OP, "__anext__", default)


def iterate(proxy: Any, *, prefetch: builtins.int = 1) -> Iteration:
    """What `async for` runs on, with up to `prefetch` items fetched in one message.

    Builtin containers are always fetched in batches, which nobody can see. With `prefetch` the items of other iterators are taken
    before they are wanted; of a slow one as many are sent as there are.
    """
    if not 0 < prefetch <= MOST:
        raise ValueError(f"prefetch must be from 1 to {MOST}, not {prefetch}")
    return _iterate(proxy, prefetch)


def awaited(proxy: Any) -> AsyncProxy:
    """Record `await proxy` over there, for a future, a job or another object that can be awaited: its result."""
    return record_op(proxy, Verb.OP, "__await__", ())


# -- operators ----------------------------------------------------------------------------------------------------------


def pow(base: Any, exponent: Any, modulus: Any = None) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `pow(base, exponent)`, or with a modulus."""
    rest = () if modulus is None else (modulus,)
    return _operation("pow", base, exponent, *rest)


def round(proxy: Any, *digits: builtins.int) -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `round(proxy)`, or to so many digits."""
    return record_op(proxy, Verb.OP, "__round__", digits)


def format(proxy: Any, spec: builtins.str = "") -> AsyncProxy:  # noqa: A001  # mirrors the builtin
    """Record `format(proxy, spec)`."""
    return record_op(proxy, Verb.OP, "__format__", (spec,))


def _operation(name: builtins.str, left: Any, *others: Any) -> AsyncProxy:
    """An operator of operands of which any may be the remote one."""
    if builtins.isinstance(left, RemoteObject):
        return record_op(left, Verb.OP, name, tuple(sent_later(left, other) for other in others), depth=3)
    for other in others:
        if builtins.isinstance(other, RemoteObject):
            value = record_op(other, Verb.VALUE, left, depth=3)
            return record_op(value, Verb.OP, name, others, depth=3)
    raise TypeError(f"gw.ops.{name} is for remote values, and all its operands are here already")


def _unary(name: builtins.str, special: builtins.str, spelling: builtins.str) -> Callable[[Any], AsyncProxy]:
    def record(proxy: Any) -> AsyncProxy:
        return record_op(proxy, Verb.OP, special, ())

    _name(record, name, spelling)
    return record


def _binary(name: builtins.str, spelling: builtins.str) -> Callable[[Any, Any], AsyncProxy]:
    def record(a: Any, b: Any) -> AsyncProxy:
        return _operation(name, a, b)

    _name(record, name, spelling)
    return record


def _name(function: Any, name: builtins.str, spelling: builtins.str) -> None:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Record `{spelling}`."


len = _unary("len", "__len__", "len(proxy)")  # noqa: A001  # mirrors the builtin, like the names below
str = _unary("str", "__str__", "str(proxy)")  # noqa: A001
repr = _unary("repr", "__repr__", "repr(proxy)")  # noqa: A001
bytes = _unary("bytes", "__bytes__", "bytes(proxy)")  # noqa: A001
int = _unary("int", "__int__", "int(proxy)")  # noqa: A001
float = _unary("float", "__float__", "float(proxy)")  # noqa: A001
complex = _unary("complex", "__complex__", "complex(proxy)")  # noqa: A001
bool = _unary("bool", "__bool__", "bool(proxy)")  # noqa: A001
truth = _unary("truth", "__bool__", "bool(proxy)")
dir = _unary("dir", "__dir__", "dir(proxy)")  # noqa: A001
hash = _unary("hash", "__hash__", "hash(proxy)")  # noqa: A001
iter = _unary("iter", "__iter__", "iter(proxy)")  # noqa: A001
aiter = _unary("aiter", "__aiter__", "aiter(proxy)")  # noqa: A001
reversed = _unary("reversed", "__reversed__", "reversed(proxy)")  # noqa: A001
copy = _unary("copy", "__copy__", "copy.copy(proxy)")
deepcopy = _unary("deepcopy", "__deepcopy__", "copy.deepcopy(proxy)")
abs = _unary("abs", "__abs__", "abs(proxy)")  # noqa: A001
neg = _unary("neg", "__neg__", "-proxy")
pos = _unary("pos", "__pos__", "+proxy")
invert = _unary("invert", "__invert__", "~proxy")
index = _unary("index", "__index__", "operator.index(proxy)")
fspath = _unary("fspath", "__fspath__", "os.fspath(proxy)")
trunc = _unary("trunc", "__trunc__", "math.trunc(proxy)")
floor = _unary("floor", "__floor__", "math.floor(proxy)")
ceil = _unary("ceil", "__ceil__", "math.ceil(proxy)")
length_hint = _unary("length_hint", "__length_hint__", "operator.length_hint(proxy)")
not_ = _unary("not_", "not_", "not proxy")

eq = _binary("eq", "a == b")
ne = _binary("ne", "a != b")
lt = _binary("lt", "a < b")
le = _binary("le", "a <= b")
gt = _binary("gt", "a > b")
ge = _binary("ge", "a >= b")
is_ = _binary("is_", "a is b")
is_not = _binary("is_not", "a is not b")
add = _binary("add", "a + b")
sub = _binary("sub", "a - b")
mul = _binary("mul", "a * b")
matmul = _binary("matmul", "a @ b")
truediv = _binary("truediv", "a / b")
floordiv = _binary("floordiv", "a // b")
mod = _binary("mod", "a % b")
divmod = _binary("divmod", "divmod(a, b)")  # noqa: A001
lshift = _binary("lshift", "a << b")
rshift = _binary("rshift", "a >> b")
and_ = _binary("and_", "a & b")
or_ = _binary("or_", "a | b")
xor = _binary("xor", "a ^ b")
concat = _binary("concat", "a + b")
countOf = _binary("countOf", "operator.countOf(a, b)")  # noqa: N816  # Python's own name
indexOf = _binary("indexOf", "operator.indexOf(a, b)")  # noqa: N816
iadd = _binary("iadd", "a += b")
isub = _binary("isub", "a -= b")
imul = _binary("imul", "a *= b")
imatmul = _binary("imatmul", "a @= b")
itruediv = _binary("itruediv", "a /= b")
ifloordiv = _binary("ifloordiv", "a //= b")
imod = _binary("imod", "a %= b")
ipow = _binary("ipow", "a **= b")
ilshift = _binary("ilshift", "a <<= b")
irshift = _binary("irshift", "a >>= b")
iand = _binary("iand", "a &= b")
ior = _binary("ior", "a |= b")
ixor = _binary("ixor", "a ^= b")
iconcat = _binary("iconcat", "a += b")
