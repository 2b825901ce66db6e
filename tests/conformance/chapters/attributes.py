"""Attributes: read, set, deleted, missing, computed."""

import operator

from tests.conformance.rows import Chapter

CHAPTER = Chapter("attributes")
THING = """
class Thing:
    kind = "thing"
    def __init__(self): self.x = 1; self._hidden = 2; self.__private = 3
    def method(self, *args): return args
    @classmethod
    def of_class(cls): return cls.__name__
    @staticmethod
    def of_nobody(x): return x
    @property
    def fails(self): raise ValueError("in the property")
    @property
    def lacks(self): return self.nothing
thing = Thing()
"""
CHAPTER.lines(
    THING,
    "thing.x",
    "thing.kind",
    "thing._hidden",
    "thing._Thing__private",
    "thing.x = [1]; thing.x",
    "thing.new = 5; thing.new, sorted(vars(thing))",
    "thing.kind = 'own'; thing.kind, Thing.kind",
    "Thing.kind = 'other'; thing.kind",
    "del thing.x; thing.x",
    "del thing.x; hasattr(thing, 'x')",
    "del thing.kind",
    "thing.missing",
    "del thing.missing",
    "hasattr(thing, 'x'), hasattr(thing, 'missing')",
    "getattr(thing, 'missing', 'default')",
    "getattr(thing, 'x', 'default')",
    "thing.fails",
    "hasattr(thing, 'fails')",
    "thing.lacks",
    "hasattr(thing, 'lacks')",
    "getattr(thing, 'lacks', 'default')",
    "thing.method(1), thing.of_class(), thing.of_nobody(1)",
    "Thing.method(thing, 1), Thing.of_class(), Thing.of_nobody(1)",
    "thing.method = 5; thing.method",
    "setattr(thing, 'not an identifier', 1); getattr(thing, 'not an identifier')",
    "setattr(thing, '', 1); getattr(thing, '')",
    "setattr(thing, 'Ünï', 1); thing.Ünï",
    "setattr(thing, 'self', 1); thing.self",
    "getattr(thing, 5)",
    "sorted(thing.__dict__.items())",
    "thing.__dict__['y'] = 7; thing.y",
    "vars(thing)['x']",
    "'x' in dir(thing), 'method' in dir(thing), 'nothing' in dir(thing)",
    "sorted(name for name in dir(thing) if not name.startswith('_'))",
    "thing.__class__.__name__, thing.__module__, thing.__doc__",
    "thing.method.__name__, thing.method.__qualname__, thing.method.__self__ is thing",
    "thing.method.__func__ is Thing.method",
    "thing.__init__()",
    "thing.x += 1; thing.x",
)
CHAPTER.lines(
    "class Slotted:\n    __slots__ = ('a',)\n    b = 1\nthing = Slotted()",
    "thing.a",
    "thing.a = 1; thing.a",
    "thing.b = 1",
    "thing.c = 1",
    "thing.__dict__",
    "thing.__slots__",
    about="slots: ",
)
CHAPTER.lines(
    "number, items, function = 5j, [], (lambda: 1)",
    "items.x = 1",
    "items.append = 1",
    "items.missing",
    "function.x = 1; function.x",
    "function.__name__, function.__code__.co_argcount, function.__defaults__",
    about="of builtin types: ",
)


@CHAPTER.row("""
    asked = []
    class Thing:
        def __getattr__(self, name):
            asked.append(name)
            if name == "no": raise AttributeError("my own words")
            return name.upper()
    thing = Thing()
    """)
def getattr_is_asked_for_what_is_missing_once(w):
    found = w.thing.found
    has = hasattr(w.thing, "no")
    try:
        w.thing.no
    except AttributeError as error:
        return found, has, error, list(w.asked)


@CHAPTER.row("""
    log = []
    class Thing:
        def __getattribute__(self, name): log.append(("get", name)); return object.__getattribute__(self, name)
        def __setattr__(self, name, value): log.append(("set", name, value)); object.__setattr__(self, name, value)
        def __delattr__(self, name): log.append(("del", name)); object.__delattr__(self, name)
        def method(self): return 1
    thing = Thing()
    """)
def each_access_is_seen_once(w):
    w.thing.a = 1
    w.thing.a
    w.thing.method()
    del w.thing.a
    return list(w.log)


@CHAPTER.row("""
    log = []
    class Thing:
        @property
        def p(self): log.append("get"); return len(log)
        @p.setter
        def p(self, value): log.append(("set", value))
        @p.deleter
        def p(self): log.append("del")
        @property
        def fixed(self): return 1
    thing = Thing()
    """)
def a_property_is_evaluated_once_for_each_access(w):
    thing = w.thing
    values = thing.p, thing.p
    thing.p = 5
    del thing.p
    hasattr(thing, "p")
    try:
        thing.fixed = 1
    except AttributeError as error:
        return values, list(w.log), error


@CHAPTER.row("""
    from functools import cached_property
    class Thing:
        calls = 0
        @cached_property
        def costly(self): self.calls += 1; return [self.calls]
    thing = Thing()
    """)
def a_cached_property_is_computed_once(w):
    return w.thing.costly is w.thing.costly, w.thing.calls


DESCRIPTOR = """
log = []
class Field:
    def __set_name__(self, owner, name): log.append(("name", owner.__name__, name)); self.name = name
    def __get__(self, instance, owner): return ("get", instance is None, owner.__name__)
    def __set__(self, instance, value): log.append(("set", value))
    def __delete__(self, instance): log.append("delete")
class Owner:
    field = Field()
owner = Owner()
"""


@CHAPTER.row(DESCRIPTOR)
def descriptors_of_a_far_class(w):
    got = w.owner.field, w.Owner.field
    w.owner.field = 5
    del w.owner.field
    return got, list(w.log)


@CHAPTER.row(DESCRIPTOR)
def a_far_descriptor_in_a_class_of_ours(w):
    class Mine:
        field = w.Field()

    mine = Mine()
    got = mine.field, Mine.field
    mine.field = 6
    del mine.field
    return got, list(w.log)


@CHAPTER.row("class Inner: x = 1\nclass Outer: inner = Inner()\nouter = Outer()")
def chains(w):
    w.outer.inner.x = 2
    return operator.attrgetter("inner.x")(w.outer), w.outer.inner.x


@CHAPTER.row("class Thing:\n    def method(self, a, b=0): return a, b\nthing = Thing()")
def methodcaller(w):
    return operator.methodcaller("method", 1, b=2)(w.thing)


@CHAPTER.row("class Thing: pass\nthing = Thing()\ndef read(): return thing.function(2)")
def a_function_of_ours_as_an_attribute(w):
    def double(x):
        return 2 * x

    w.thing.function = double
    return w.read(), w.thing.function is double, w.thing.function(3)


@CHAPTER.row("class Thing: pass\nthing = Thing()")
def an_attribute_error_knows_the_name_and_the_object(w):
    try:
        w.thing.missing
    except AttributeError as error:
        return error.name, error.obj is w.thing, str(error)


@CHAPTER.row("import types\nmodule = types.ModuleType('shelf')\nmodule.x = 1")
def a_module_is_an_object_too(w):
    w.module.y = 2
    return w.module.x, w.module.y, w.module.__name__, hasattr(w.module, "z")
