"""The rows that fail, each with its reason. A row that passes must leave this list: it is an error here."""

import sys

KNOWN: dict[str, str] = {
    "data model: who has __getattr__: [hasattr(type(one), '__getattr__') for one in (thing, plain)]": "`type(x)` is a class of ours, which has what is needed to ask: the class of the original says what that has.",
    "data model: __class_getitem__: type(thing) is not None and thing.__class__[int]": "open: what a class of the far side is asked about itself, and its metaclass.",
    "data model: who has __copy__: [hasattr(type(one), '__copy__') for one in (thing, plain)]": "A proxy must say itself how it is copied: the copy module would look into the proxy.",
    "data model: who has __deepcopy__: [hasattr(type(one), '__deepcopy__') for one in (thing, plain)]": "A proxy must say itself how it is copied: the copy module would look into the proxy.",
    "data model: __reduce__: thing.__reduce__()": "A proxy says itself how it is pickled: pickle takes the answer of the original for one about the proxy.",
    "attributes: an attribute error knows the name and the object": "AttributeError.obj stays at home: a traceback asks it for all its names, to suggest one, and that would be a call from wherever an error is printed.",
    "operators: numbers: divmod(17, count), pow(2, count, 10)": "pow of three arguments asks in C for real integers, where the first of them is one.",
    "operators: sequences: [1] + pair": "The words of this error come from C, which prints the names of its own classes in full, or those of the operand that was copied.",
    "containers: list: __import__('heapq').heappop(items)": "A check in C of the exact layout: a proxy is no such object, and no method of it is asked. `obtain` it first.",
    "containers: dict: for key in table: table[key * 2] = 1\nlen(table)": "Iterators over builtin containers fetch ahead: what changes while they are walked is seen late, or not at all.",
    "containers: relatives: ns.a, ns, ns == SimpleNamespace(a=1), ns == __import__('types').SimpleNamespace(a=1)": "Comparing two namespaces looks in C at the second.",
    "iteration: for k in table:\n    table[k + 'x'] = 1": "Iterators over builtin containers fetch ahead: what changes while they are walked is seen late, or not at all.",
    "iteration: walk = iter(table); table['new'] = 1; next(walk)": "Iterators over builtin containers fetch ahead: what changes while they are walked is seen late, or not at all.",
    "iteration: walk = iter(items); next(walk); __import__('operator').length_hint(walk)": "open: iterators that fetch ahead have no length hint.",
    "iteration: a list that changes while it is walked": "Iterators over builtin containers fetch ahead: what changes while they are walked is seen late, or not at all.",
    "exceptions: what is caught has its class methods and attributes": "open: what an exception that was caught here knows of its original.",
    "exceptions: a class of ours inherits from a far exception": "open: what an exception that was caught here knows of its original.",
    "exceptions: groups of custom classes": "open: what an exception that was caught here knows of its original.",
    "classes: isinstance(5, Base), isinstance(Base, Base), isinstance(base, type), isinstance(Base, type), isinstance(Metal, Meta)": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: type(base).__name__, type(sub).__name__, type(items).__name__, type(Base).__name__, type(Metal).__name__": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: base.__class__ is Base, sub.__class__ is Sub, base.__class__ == Base, sub.__class__ is Base": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: base.__class__.__name__, items.__class__ is list, Base.__class__ is type, Metal.__class__ is Meta": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: type(base) is Base": "`type(x)` is the class that the interpreter made the object with: a proxy's is one of ours. `x.__class__` and `isinstance` say what the user wants.",
    "classes: type(items) is list": "`type(x)` is the class that the interpreter made the object with: a proxy's is one of ours. `x.__class__` and `isinstance` say what the user wants.",
    "classes: Base.__name__, Base.__qualname__, Base.__module__, Sub.__bases__[0] is Base, len(Sub.__mro__), Sub.__mro__[1] is Base": "`__bases__` of a proxy of a class are the ancestors known here: `issubclass(proxy, list)` asks for them.",
    "classes: Base[int]": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: type('New', (object,), {'x': 1})().x, type(Base)('Made', (Base,), {'y': 2})().y": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: list.append(items, 2); items": "A check in C of the exact layout: a proxy is no such object, and no method of it is asked. `obtain` it first.",
    "classes: a far metaclass makes a class of ours": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: mro entries": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: register a class of ours": "open: what a class of the far side is asked about itself, and its metaclass.",
    "classes: dataclass functions": "`type(x)` is the class that the interpreter made the object with: a proxy's is one of ours. `x.__class__` and `isinstance` say what the user wants. dataclasses asks `type(x)` for its fields.",
    "classes: numbers and sequences": "open: what a class of the far side is asked about itself, and its metaclass.",
    "match: far classes in patterns": "match asks in C whether the class of a pattern is a type: a proxy of a class is none.",
    "match: positional patterns of a far class": "match asks in C whether the class of a pattern is a type: a proxy of a class is none.",
    "values: conversions: int(text)": "A check in C of the exact layout: a proxy is no such object, and no method of it is asked. `obtain` it first.",
    "values: conversions: ','.join([text, 'c'])": "A check in C of the exact layout: a proxy is no such object, and no method of it is asked. `obtain` it first.",
    "values: conversions: 'abc'.startswith(text)": "A check in C of the exact layout: a proxy is no such object, and no method of it is asked. `obtain` it first.",
    "values: conversions: memoryview(data)[0]": "Before Python 3.12 no class written in Python lends its memory: `bytes(x)` and `gw.obtain(x)` fetch it.",
    "values: json with the help of isinstance": "A check in C of the exact layout: a proxy is no such object, and no method of it is asked. `obtain` it first.",
    "standard library: numbers, dates, texts: day + 1": "The words of this error come from C, which prints the names of its own classes in full, or those of the operand that was copied.",
    "standard library: json there": "A check in C of the exact layout: a proxy is no such object, and no method of it is asked. `obtain` it first.",
}
# end of KNOWN

if sys.version_info >= (3, 12):  # classes written in Python may lend their memory
    KNOWN.pop("values: conversions: memoryview(data)[0]", None)
if sys.version_info >= (3, 13):
    KNOWN["standard library: numbers, dates, texts: day < moment"] = (
        "The words of this error come from C, which prints the names of its own classes in full, or those of the operand that was copied."
    )

CYCLES = {
    "classes: Base.hello = lambda self: ('patched', self.x); base.hello(), sub.hello()": "the far class holds a function, whose globals hold the class",
    "classes: a class of ours inherits from a far one": "the far class knows its subclass, whose methods hold the class",
    "classes: several far bases": "the far class knows its subclass, whose methods hold the class",
    "classes: generics": "the cache of typing keeps the parameters",
    "identity: exceptions from beyond": "this process plays all three sides, and has one stand-in for the class",
}
"""Rows that make a cycle across the session, or leave something in a cache: counts cannot free it while the session lives."""
