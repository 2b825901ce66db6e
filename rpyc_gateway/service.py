"""What a node exposes: services, the classic interpreter, and the policies that every verb of a peer passes."""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import sys
import types
from collections import UserString
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from rpyc_gateway.classes import BINARY, RemoteObject, describe, described
from rpyc_gateway.errors import NotExposed
from rpyc_gateway.proto.frames import Stamp
from rpyc_gateway.proto.known import members, mro_of
from rpyc_gateway.proto.messages import ClassInfo, Verb
from rpyc_gateway.proto.plain import BY_NAME, plain_kind
from rpyc_gateway.proto.values import BY_VALUE
from rpyc_gateway.rules import PREFIX, Called, Rules, combined, declared, member
from rpyc_gateway.views import Restricted, shows

__all__ = [
    "ClassicService",
    "Modules",
    "Policy",
    "Service",
    "allows",
    "expose",
    "policy_for",
    "read",
    "root_methods",
]

_F = TypeVar("_F", bound=Callable[..., object])


def expose(function: _F) -> _F:
    """Mark a method of a Service as one that peers may call. Written below `@property`, `@staticmethod` or `@classmethod`.

    A property that peers may set has a setter that is marked too: `@level.setter`, and below it `@gw.expose`.
    """
    try:
        function.__gw_exposed__ = True  # type: ignore[attr-defined]
    except AttributeError:
        kind = type(function).__name__
        raise TypeError(f"@expose cannot mark a {kind}: write it below @{kind}, at the function itself") from None
    return function


class Service:
    """The root object of the sessions that are opened for it; peers reach only what `@expose` marks, or a name that begins with `exposed_`.

    `exposed_read` is RPyC's way to write it, for attributes and nested classes too: peers say `root.read`. It is read, not set.
    One instance serves one session when the class is served, and every session when an instance is.

    `class Lab(gw.Service, reads={"level"}, writes={"level"}, deletes=(), calls={"reset"})` names attributes, those of ancestors and of instances too,
    that peers may read, set, delete and call; nothing follows from one for the others. Raises TypeError for a name that can never be so.
    """

    __gw_policy__: Policy | None = None
    __gw_rules__: ClassVar[Rules] = Rules()

    def __init_subclass__(
        cls,
        *,
        reads: Iterable[str] = (),
        writes: Iterable[str] = (),
        deletes: Iterable[str] = (),
        calls: Iterable[str] = (),
        **others: Any,
    ) -> None:
        if others and type(super().__init_subclass__) is types.BuiltinMethodType:  # object's, which knows none
            raise TypeError(f"{cls.__qualname__}: {', '.join(others)}: the rules are reads, writes, deletes and calls")
        super().__init_subclass__(**others)
        own = declared(cls, {"reads": reads, "writes": writes, "deletes": deletes, "calls": calls})
        inherited = [base.__gw_rules__ for base in mro_of(cls) if issubclass(base, Service)]
        cls.__gw_rules__ = combined(cls, [own, *inherited])

    @classmethod
    def service_name(cls) -> str:
        """What clients ask for: the class's name in lower case, without "service" at its end."""
        return cls.__name__.lower().removesuffix("service") or "service"

    def on_connect(self, session: object) -> None:
        """A session was opened. Called in the trio thread: it must not block."""

    def on_disconnect(self, session: object) -> None:
        """The session is over. Called in the trio thread: it must not block."""


class Policy(Protocol):
    """Decides what a peer may do with an object it holds a reference to."""

    def check(self, target: object, verb: Verb, name: str) -> str | None:
        """Pass, or raise NotExposed. `name` is the attribute or special method, "" for a call.

        It may return the name of the attribute that is meant by it, for a GET as `Called` if all else that it can do is not for peers.
        """
        ...


class Unrestricted:
    """The policy of `classic`: whoever holds the session holds the interpreter."""

    def check(self, target: object, verb: Verb, name: str) -> None:
        """Everything passes."""


# Objects whose public-looking attributes lead to code, frames or globals of this process.
_SEALED = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodWrapperType,
    types.CodeType,
    types.FrameType,
    types.TracebackType,
    functools.partial,
    functools.partialmethod,
    type,
)
_FUNCTIONS = frozenset({types.FunctionType, types.MethodType, types.BuiltinFunctionType})
_GENERATORS = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
_GENERATOR_VERBS = frozenset({"send", "throw", "close", "asend", "athrow", "aclose"})
# str.format evaluates attribute paths of its arguments, which no policy would see.
_TEXTS = (str, UserString)
_FORMATTERS = frozenset({"format", "format_map"})


class PublicOnly:
    """The policy for everything outside `classic`: public names and special methods, no insides, and of a Service what it exposes."""

    def check(self, target: object, verb: Verb, name: str) -> str | None:
        """Pass public names and special methods; refuse the rest by name."""
        kind = type(target)
        if verb is Verb.CALL and kind in _FUNCTIONS:
            return None  # what may be called was decided when the reference was given; here without the rest, as most calls are of these
        info = described(target)
        if issubclass(kind, Service):
            return _check_service(target, verb, name)
        if kind is Restricted:
            _check_view(target, verb, name)
        elif verb is Verb.COPY:
            if name and not _is_open(kind, info):
                raise _denied(target, "what its builtin type holds")
        elif kind in BY_VALUE and verb is not Verb.VALUE:
            raise NotExposed(f"{kind.__name__} values are used where they arrive: a program cannot go on with one here")
        elif verb is Verb.GET and name in _DESCRIPTIVE:
            return None
        elif verb is Verb.OP:
            if name in _SEALED_SPECIAL or (issubclass(kind, types.MappingProxyType) and name in BINARY):
                raise _denied(target, name)
        elif verb not in _UNNAMED and _is_inside(target, info, name):
            raise _denied(target, name)
        return None


def _check_service(target: object, verb: Verb, name: str) -> str | None:
    if verb is Verb.VALUE:
        return None
    name = _SPECIAL_OF.get(verb, name)
    if name == "__ne__" and member(type(target), name) is object.__ne__:  # which asks __eq__
        name = "__eq__"
    held = member(type(target), name)
    if verb in _CHANGES:
        change = getattr(held, _CHANGES[verb], None) if isinstance(held, property) else None
        if getattr(change, "__gw_exposed__", False) is True:
            return None
    elif _is_marked(held):
        return None
    prefixed = name if name.startswith(PREFIX) and _has(target, name) else exposed_name(target, name)
    if verb is Verb.GET and prefixed is not None:
        return prefixed
    rules: Rules = type(target).__gw_rules__  # type: ignore[attr-defined]  # of a Service
    said = name if prefixed is None else name.removeprefix(PREFIX)
    if rules.grant(verb, said):
        return prefixed
    if verb is Verb.GET and said in rules.calls:
        is_method = type(held) is types.FunctionType and name not in _own_attributes(target)
        return None if is_method else Called(name)
    raise _denied(target, name)


def _check_view(target: Any, verb: Verb, name: str) -> None:
    """What a view shows is for the view to say; of its own it has a text and an identity."""
    if verb is Verb.OP:
        if name not in _VIEW_SPECIAL:
            raise _denied(target, name)
    elif verb is not Verb.VALUE and not (verb in (Verb.GET, Verb.SET) and shows(target, name)):
        raise _denied(target, name or verb.name)


_VIEW_SPECIAL = frozenset({"__repr__", "__str__", "__format__", "__dir__", "__hash__", "__eq__", "__ne__", "__bool__"})


def exposed_name(target: object, name: str) -> str | None:
    """The prefixed name, if an object of this process has an attribute under that; it is not asked itself."""
    prefixed = PREFIX + name
    return prefixed if _has(target, prefixed) else None


def read(policy: Policy, target: Any, name: str) -> Any:
    """An attribute of an object, or what is meant by its name, if a peer may have it."""
    meant = policy.check(target, Verb.GET, name) or name
    try:
        value = getattr(target, meant)
    except AttributeError:
        prefixed = exposed_name(target, meant)
        if prefixed is None:
            raise
        value = getattr(target, prefixed)
    return _only_called(target, meant, value) if type(meant) is Called else value


def listed(policy: Policy, service: Service) -> tuple[str, ...]:
    """What `dir` says of a service: the names that a peer may read, as peers say them."""
    names = {*dir(type(service)), *_own_attributes(service)}
    if not isinstance(policy, Unrestricted):
        names = {name.removeprefix(PREFIX) for name in names}
    return tuple(sorted(name for name in names if _may_read(policy, service, name)))


def _may_read(policy: Policy, target: object, name: str) -> bool:
    try:
        policy.check(target, Verb.GET, name)
    except NotExposed:
        return False
    return True


def _only_called(target: object, name: str, value: Any) -> Any:
    """What can be called in place of a value, and shows nothing of it."""
    if not callable(value):
        kind, held = type(target).__qualname__, type(value).__name__
        raise TypeError(f"{name!r} of {kind!r} objects is there to be called, and holds an object of type {held!r} now")
    return value if issubclass(type(value), _SEALED) else functools.partial(value)


def _has(target: object, name: str) -> bool:
    kind = type(target)
    if issubclass(kind, RemoteObject | type):
        return False
    return any(name in members(base) for base in mro_of(kind)) or name in _own_attributes(target)


def _own_attributes(target: object) -> Mapping[str, object]:
    """Of an instance, without asking it."""
    try:
        own = object.__getattribute__(target, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}


def _is_marked(member: object) -> bool:
    if type(member) is not types.FunctionType:
        if isinstance(member, property):
            member = member.fget
        elif isinstance(member, staticmethod | classmethod):
            member = member.__func__
    return getattr(member, "__gw_exposed__", False) is True  # not just true: a mock says yes to everything


def _is_open(kind: type, info: ClassInfo | None) -> bool:
    """Whether a copy of what the builtin base of a class holds shows no more than its own methods do."""
    if info is not None:
        return (info.module, info.name) in BY_NAME  # what a class in between hides is not known here
    base = plain_kind(kind)
    return base is not None and all(
        inspect.getattr_static(kind, name, None) is inspect.getattr_static(base, name, None) for name in _READERS
    )


_READERS = ("__iter__", "__getitem__", "__str__", "keys", "values", "items", "get")


def _is_inside(target: object, info: ClassInfo | None, name: str) -> bool:
    if name.startswith("_"):
        return True
    return _is_sealed(target, name) if info is None else _is_sealed_elsewhere(info, name)


def _is_sealed(target: object, name: str) -> bool:
    """Whether a public name belongs to the insides of an object."""
    kind = type(target)
    if issubclass(kind, _GENERATORS):
        return name not in _GENERATOR_VERBS
    if issubclass(kind, _TEXTS):
        return name in _FORMATTERS
    if issubclass(kind, types.ModuleType):
        return isinstance(vars(target).get(name), types.ModuleType)  # what a module imports is not what it offers
    if (kind, name) in _BACK_DOORS or (name == "obj" and issubclass(kind, AttributeError)):
        return True
    return issubclass(kind, _SEALED)


def _is_sealed_elsewhere(info: ClassInfo, name: str) -> bool:
    """The same for an object that is held from another node, by what that node says of its class."""
    if info.flags & ClassInfo.IS_CLASS or (info.module, info.name) in _SEALED_NAMES:
        return True
    bases = set(info.mro)
    if bases & _GENERATOR_NAMES:
        return name not in _GENERATOR_VERBS
    return (
        name in _FORMATTERS
        or bool(bases & _SEALED_NAMES)
        or (name == "obj" and ("builtins", "AttributeError") in bases)
    )


# Public names that hand out the object behind a view.
_BACK_DOORS = frozenset(
    {(memoryview, "obj"), *((kind, "mapping") for kind in map(type, ({}.keys(), {}.values(), {}.items())))}
)
_GENERATOR_NAMES = frozenset(("builtins", kind.__name__) for kind in _GENERATORS)
_SEALED_NAMES = frozenset(
    ("functools" if kind.__module__ == "functools" else "builtins", kind.__name__)
    for kind in (*_SEALED, types.ModuleType, types.MappingProxyType, memoryview)
)
# What its description says anyway, and what help() reads.
_DESCRIPTIVE = frozenset({"__name__", "__qualname__", "__module__", "__doc__"})
# What sessions with the whole interpreter begin with, and functions that need one.
_CLASSIC = frozenset({"modules", "builtins", "builtin", "namespace", "getmodule", "eval", "execute"})
# A call has no name: what may be called was decided when the reference was given. VALUE and TAKE touch no attribute.
_UNNAMED = frozenset({Verb.CALL, Verb.VALUE, Verb.TAKE})
_CHANGES = {Verb.SET: "fset", Verb.DEL: "fdel"}  # what a property does it with, which is marked like any function
# A Service is called and iterated only if it says so.
_SPECIAL_OF = {Verb.CALL: "__call__", Verb.TAKE: "__next__"}
# Special methods that reach into the class or rebuild the object.
_SEALED_SPECIAL = frozenset(
    {"__reduce__", "__reduce_ex__", "__getattribute__", "__getattr__", "__setattr__", "__delattr__"}
)


def _denied(target: object, name: str) -> NotExposed:
    instead = ""
    if name in _CLASSIC and isinstance(target, Service):
        instead = ": it is of 'classic', where a node serves that (gw.connect(..., service='classic'))"
    return NotExposed(f"{name!r} of {type(target).__qualname__!r} objects is not exposed to peers{instead}")


def policy_for(root: object) -> Policy:
    """The policy of a session that serves `root`: none for classic, its own for a service that has one, public names for all others."""
    if isinstance(root, ClassicService):
        return Unrestricted()
    own: Policy | None = root.__gw_policy__ if isinstance(root, Service) else None
    return own or PublicOnly()


def root_methods(root: object) -> tuple[str, ...]:
    """The names of the plain functions of a session's root that its peer may call, and of its special methods that are marked."""
    policy, info = policy_for(root), describe(root)
    names: Iterable[str] = info.methods
    if type(policy) is not Unrestricted:
        names = (name for name in names if _may_read(policy, root, name))
    marked = (name for name in info.special if isinstance(root, Service) and _is_marked(member(type(root), name)))
    return tuple(dict.fromkeys([*(name.removeprefix(PREFIX) for name in names), *marked]))


def allows(patterns: Sequence[str], origin: Sequence[Stamp], node: str = "") -> bool:
    """Whether the origin of an OPEN matches one of the `allow` patterns of a configuration.

    `*` is whoever can reach this node. `parent`, `uid:N`, `cert:NAME` and `tty:PATH` are known of direct neighbours only: the origin must have exactly
    one stamp, made by this node (`node`, if given).
    """
    if "*" in patterns:
        return True
    if len(origin) != 1 or (node and origin[0].by != node):
        return False
    identity = origin[0].identity
    return bool(identity) and identity in patterns


class Modules:
    """`modules.os`, `modules["os.path"]`: the modules of this interpreter, imported when asked for."""

    __slots__ = ()

    def __getattr__(self, name: str) -> types.ModuleType:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        module = sys.modules.get(name)
        if module is not None and type(module) is types.ModuleType:
            spec = module.__dict__.get("__spec__")
            if spec is not None and not getattr(spec, "_initializing", True):
                return module  # as a rule it is imported, and no other thread is at it any more
        return importlib.import_module(name)

    def __getitem__(self, name: str) -> types.ModuleType:
        return importlib.import_module(name)

    def __contains__(self, name: str) -> bool:
        try:
            importlib.import_module(name)
        except ImportError:
            return False
        return True


class ClassicService(Service):
    """The whole interpreter: `modules`, `builtins`, `namespace`, `eval`, `execute`. Whoever reaches it owns this process."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__rpyc_gateway__", "__builtins__": builtins}
        self.modules = Modules()
        self.builtins = builtins
        self.builtin = builtins

    def getmodule(self, name: str) -> types.ModuleType:
        """Import a module by its dotted name."""
        return importlib.import_module(name)

    def eval(self, text: str, namespace: Mapping[str, Any] | None = None) -> Any:
        """Evaluate an expression in the session's namespace (or the one given) and return its value."""
        code = compile(text.lstrip(" \t"), "<rpyc-gateway>", "eval", dont_inherit=True) if type(text) is str else text
        return builtins.eval(code, self.namespace, namespace)

    def execute(self, text: str, filename: str = "<rpyc-gateway>") -> None:
        """Execute statements in the session's namespace."""
        exec(compile(text, filename, "exec", dont_inherit=True), self.namespace)  # our own __future__ is ours
