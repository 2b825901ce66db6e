"""Section 3.3 of the language reference, method by method: a far object has the special methods that its class has, and no others."""

from tests.conformance.rows import Chapter

CHAPTER = Chapter("data model")

# What each method does, and what calls it. `thing` has that method only, `plain` has none: whatever Python says of it must stay.
METHODS = {
    # 3.3.1 basic customisation
    "__repr__(self)": "repr({})",
    "__str__(self)": "str({})",
    "__bytes__(self)": "bytes({})",
    "__format__(self, spec)": "format({}, '>9')",
    "__lt__(self, other)": "{} < 5",
    "__le__(self, other)": "{} <= 5",
    "__eq__(self, other)": "{} == 5",
    "__ne__(self, other)": "{} != 5",
    "__gt__(self, other)": "{} > 5",
    "__ge__(self, other)": "{} >= 5",
    "__hash__(self)": "hash({}) == hash({})",
    "__bool__(self)": "not {}",
    # 3.3.2 attribute access
    "__getattr__(self, name)": "{}.missing",
    "__getattribute__(self, name)": "{}.anything",
    "__setattr__(self, name, value)": "{}.x = 5; log",
    "__delattr__(self, name)": "del {}.x; log",
    "__dir__(self)": "set(dir({})) - set(dir(object()))",
    "__get__(self, instance, owner)": "type('Owner', (), dict(field={}))().field",
    "__set__(self, instance, value)": "type('Owner', (), dict(field={}))().field = 5; log",
    "__delete__(self, instance)": "del type('Owner', (), dict(field={}))().field; log",
    # 3.3.5, 3.3.6 emulating generic and callable objects
    "__class_getitem__(cls, key)": "type({}) is not None and {}.__class__[int]",
    "__call__(self, /, *args, **kwargs)": "{}(1, 2, self=3)",
    # 3.3.7 emulating container types
    "__len__(self)": "len({})",
    "__length_hint__(self)": "__import__('operator').length_hint({}, 3)",
    "__getitem__(self, key)": "{}[5]",
    "__setitem__(self, key, value)": "{}[5] = 6; log",
    "__delitem__(self, key)": "del {}[5]; log",
    "__iter__(self)": "list({})",
    "__next__(self)": "next({})",
    "__reversed__(self)": "list(reversed({}))",
    "__contains__(self, item)": "5 in {}",
    # 3.3.8 emulating numeric types: unary and conversions; binary ones are the chapter "operators"
    "__neg__(self)": "-{}",
    "__pos__(self)": "+{}",
    "__abs__(self)": "abs({})",
    "__invert__(self)": "~{}",
    "__complex__(self)": "complex({})",
    "__int__(self)": "int({})",
    "__float__(self)": "float({})",
    "__index__(self)": "__import__('operator').index({})",
    "__round__(self, digits=None)": "round({}), round({}, 2)",
    "__trunc__(self)": "__import__('math').trunc({})",
    "__floor__(self)": "__import__('math').floor({})",
    "__ceil__(self)": "__import__('math').ceil({})",
    "__fspath__(self)": "__import__('os').fspath({})",
    # 3.3.9 with statement context managers
    "__enter__(self)": "type({}).__enter__({})",
    "__exit__(self, kind, error, traceback)": "type({}).__exit__({}, None, None, None)",
    # 3.4 asynchronous protocols: who has them; the chapter "trio" uses them
    "__await__(self)": "hasattr(type({}), '__await__')",
    "__aiter__(self)": "hasattr(type({}), '__aiter__')",
    "__anext__(self)": "hasattr(type({}), '__anext__')",
    "__aenter__(self)": "hasattr(type({}), '__aenter__')",
    "__aexit__(self, kind, error, traceback)": "hasattr(type({}), '__aexit__')",
    # what the standard library asks for
    "__copy__(self)": "__import__('copy').copy({})",
    "__deepcopy__(self, memo)": "__import__('copy').deepcopy({})",
    "__sizeof__(self)": "__import__('sys').getsizeof({}) > 0",
    "__reduce__(self)": "{}.__reduce__()",
}
ANSWERS = {
    "__repr__": "'<a thing>'", "__str__": "'text'", "__bytes__": "b'raw'", "__format__": "'formatted ' + spec", "__hash__": "7",
    "__bool__": "False", "__dir__": "['one', 'two']", "__len__": "7", "__length_hint__": "8", "__iter__": "iter((1, 2))",
    "__reversed__": "iter((2, 1))", "__contains__": "item == 5", "__complex__": "1j", "__int__": "7", "__float__": "7.5",
    "__index__": "7", "__fspath__": "'/a/path'", "__sizeof__": "7", "__call__": "args, tuple(kwargs.items())",
    "__get__": "'field'", "__reduce__": "'here'", "__getattribute__": "('got', name)", "__exit__": "'exited'",
}  # fmt: skip
SETUP = """
log = []
class Plain:
    pass
class Thing:
    def {signature}:
        log.append({name!r})
        return {answer}
plain = Plain()
thing = Thing()
"""

for signature, use in METHODS.items():
    name = signature.partition("(")[0]
    setup = SETUP.format(signature=signature, name=name, answer=ANSWERS.get(name, f"({name!r}, 'answer')"))
    CHAPTER.lines(setup, use.replace("{}", "thing"), about=f"{name}: ")
    CHAPTER.lines(setup, use.replace("{}", "plain"), about=f"no {name}: ")
    if name not in ("__class_getitem__", "__sizeof__") and not use.startswith("hasattr"):
        has = f"[hasattr(type(one), {name!r}) for one in (thing, plain)]"
        CHAPTER.lines(setup, has, about=f"who has {name}: ")

NONE = """
class Closed:
    __hash__ = None
    __iter__ = None
    __contains__ = None
    __reversed__ = None
    def __getitem__(self, key): return key
    def __len__(self): return 3
closed = Closed()
"""
CHAPTER.lines(
    NONE, "hash(closed)", "iter(closed)", "1 in closed", "reversed(closed)", "closed[1]", about="set to None: "
)

CHAPTER.lines(
    """
    class Wrong:
        def __len__(self): return -1
        def __bool__(self): return 5
        def __hash__(self): return "text"
        def __repr__(self): return 5
        def __str__(self): return None
        def __int__(self): return "five"
        def __float__(self): return "five"
        def __index__(self): return 1.5
        def __iter__(self): return 5
        def __bytes__(self): return "text"
        def __format__(self, spec): return 5
        def __contains__(self, item): return [1]
        def __length_hint__(self): return "many"
    wrong = Wrong()
    """,
    "len(wrong)",
    "bool(wrong)",
    "hash(wrong)",
    "repr(wrong)",
    "str(wrong)",
    "int(wrong)",
    "float(wrong)",
    "[1, 2][wrong]",
    "iter(wrong)",
    "bytes(wrong)",
    "f'{wrong}'",
    "5 in wrong",
    about="answers of a wrong type: ",
)


@CHAPTER.row("class Plain: pass\nplain = Plain()")
def a_special_method_on_the_instance_does_not_count(w):
    w.plain.__len__ = lambda: 5
    try:
        return len(w.plain)
    except TypeError as error:
        return error


@CHAPTER.row("""
    died = []
    class Mortal:
        def __init__(self, name): self.name = name
        def __del__(self): died.append(self.name)
    """)
def del_runs_when_the_last_reference_goes(w):
    one = w.Mortal("one")
    before = list(w.died)
    del one
    return before, list(w.died)


@CHAPTER.row("""
    class Made:
        def __new__(cls, *args): made = super().__new__(cls); made.args = args; return made
        def __init__(self, *args): self.seen = len(args)
    """)
def new_and_init_get_the_arguments(w):
    made = w.Made(1, 2)
    return made.args, made.seen


@CHAPTER.row("class Doc:\n    'A line.'\ndoc = Doc()")
def doc_module_and_qualname(w):
    return w.doc.__doc__, w.Doc.__doc__, w.Doc.__module__, w.Doc.__qualname__, w.Doc.__name__
