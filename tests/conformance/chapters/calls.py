"""Calls: arguments of any kind and name, methods, callbacks, and what goes wrong with them."""

import functools
import inspect

from tests.conformance.rows import Chapter

CHAPTER = Chapter("calls")
CHAPTER.lines(
    """
    def collect(*args, **kwargs): return args, tuple(sorted(kwargs.items()))
    def strict(a, b=2, /, c=3, *, d=4): return a, b, c, d
    def fails(): raise ValueError("on purpose", 5)
    def echo(x): return x
    def make(): return lambda x: x + 1
    items, table = [1, 2], {'a': 1, 'self': 2}
    class Adder:
        def __init__(self, n): self.n = n
        def __call__(self, x): return self.n + x
        def method(self, x, *, self_=0): return self.n, x, self_
    adder = Adder(5)
    """,
    "collect()",
    "collect(1, 'two', None, (3, 4))",
    "collect(self=1, name=2, proxy=3, args=4, kwargs=5, number=6, steps=7)",
    "collect(**{'not an identifier': 1, '': 2, 'ü': 3})",
    "collect(*items)",
    "collect(**table)",
    "collect(*items, **table)",
    "collect(**{1: 2})",
    "strict(1), strict(1, 5, 6, d=7), strict(1, c=9)",
    "strict()",
    "strict(a=1)",
    "strict(1, 2, 3, 4)",
    "strict(1, e=5)",
    "fails()",
    "echo(echo)(5)",
    "echo(items) is items, echo(echo) is echo",
    "make()(4)",
    "adder(1), adder.method(2), adder.method(2, self_=3), Adder(1)(1)",
    "adder()",
    "items()",
    "Adder()",
    "callable(collect), callable(items), callable(adder), callable(Adder), callable(adder.method), callable(5)",
    "(lambda f: f(3))(echo)",
    "list(map(echo, [1, 2])), list(filter(echo, [0, 1]))",
    "sorted([3, 1, 2], key=echo), max([1, 2], key=echo)",
    "echo.__name__, echo.__module__, echo.__doc__, strict.__defaults__, strict.__kwdefaults__",
    "echo.x = 5; echo.x",
    "repr(type(echo).__name__), repr(echo)[:14]",
)
CHAPTER.lines(
    """
    def apply(f, *args): return f(*args)
    def apply_named(f, **kwargs): return f(**kwargs)
    def twice(f): return lambda x: f(f(x))
    def name(f): return f.__name__
    def guarded(f):
        try: f()
        except ValueError as error: return "caught", error.args
        finally: done.append(1)
    def order(items, key): return sorted(items, key=key)
    def kind(x): return type(x).__name__, isinstance(x, list), callable(x)
    done = []
    """,
    "apply(lambda x: x + 1, 3)",
    "apply(max, 1, 2)",
    "apply_named(lambda **k: sorted(k), self=1, f_=2)",
    "twice(lambda x: x * 2)(5)",
    "apply(lambda f: f(3), lambda x: x)",
    "apply(apply, apply, apply, max, 1, 2)",
    "order([3, 1, 2], lambda x: -x)",
    "guarded(lambda: int('x'))",
    "guarded(lambda: 1 / 0)",
    "guarded(lambda: 1 / 0 if not done else 0)",
    "apply(lambda: {}['missing'])",
    "apply(lambda x: x, done) is done",
    "kind([1]), kind({}), kind(len), kind(5), kind('a'), kind(kind)",
    "apply(str.upper, 'a'), apply('a'.upper)",
    "apply([].append, 1)",
    about="callbacks: ",
)


@CHAPTER.row("def call(f, n): return f(n)")
def a_callback_sees_its_closure(w):
    seen = []

    def remember(n):
        seen.append(n)
        return seen

    return w.call(remember, 1) is seen, seen


@CHAPTER.row("def down(n, f): return n if n == 0 else f(n - 1, down)")
def recursion_back_and_forth(w):
    def here(n, far):
        return n if n == 0 else far(n - 1, here)

    return w.down(20, here), here(21, w.down)


@CHAPTER.row("def f(a, b=2, *args, c, **kwargs): 'Doc.'\ndef g(x: int) -> str: ...\nclass C:\n    def m(self, q): ...")
def signatures(w):
    return str(inspect.signature(w.f)), str(inspect.signature(w.C().m)), list(inspect.signature(w.f).parameters)


@CHAPTER.row("def f(a: int, b: str = 'x') -> float: ...")
def annotations(w):
    return dict(w.f.__annotations__) == {"a": int, "b": str, "return": float}, sorted(w.f.__annotations__)


@CHAPTER.row("def f(*args, **kwargs): return args, kwargs")
def partial_of_a_far_function(w):
    part = functools.partial(w.f, 1, a=2)
    return part(3, b=4), part.func is w.f


@CHAPTER.row("import functools\ndef f(*args, **kwargs): return args, kwargs\npart = functools.partial(f, 1, a=2)")
def a_far_partial(w):
    return w.part(3, b=4), w.part.args, w.part.keywords, w.part.func is w.f


@CHAPTER.row("def add(a, b): return a + b")
def reduce_and_wraps(w):
    @functools.wraps(w.add)
    def wrapper(*args):
        return w.add(*args)

    return functools.reduce(w.add, [1, 2, 3]), wrapper.__name__, wrapper(1, 2), wrapper.__wrapped__ is w.add


@CHAPTER.row("calls = []\ndef f(x): calls.append(x); return x * 2")
def lru_cache_of_a_far_function(w):
    cached = functools.lru_cache(w.f)
    return cached(2), cached(2), list(w.calls)


@CHAPTER.row(
    "import functools\n@functools.singledispatch\ndef show(x): return 'object'\n@show.register\ndef _(x: list): return 'list'\n@show.register\ndef _(x: int): return 'int'"
)
def singledispatch_there(w):
    return w.show([1]), w.show(5), w.show("a")


@CHAPTER.row("items = [1]")
def singledispatch_here(w):
    @functools.singledispatch
    def show(x):
        return "object"

    show.register(list, lambda x: "list")
    return show(w.items)


@CHAPTER.row(
    "def decorate(f):\n    def inner(*args): return ('decorated', f(*args))\n    inner.original = f\n    return inner"
)
def a_far_decorator(w):
    @w.decorate
    def double(x):
        return 2 * x

    return double(4), double.original(4)


@CHAPTER.row(
    "class Thing:\n    def __init__(self): self.subs = []\n    def on(self, f): self.subs.append(f); return f\n    def fire(self, x): return [f(x) for f in self.subs]\nthing = Thing()"
)
def an_event_source(w):
    heard = []
    w.thing.on(heard.append)
    w.thing.on(lambda x: x + 1)
    fired = w.thing.fire(5)
    w.thing.subs.clear()
    return heard, fired


@CHAPTER.row("def defaults(a=[]): a.append(1); return a")
def a_mutable_default(w):
    return w.defaults() is w.defaults(), len(w.defaults())


@CHAPTER.row(
    "def outer():\n    count = 0\n    def inner():\n        nonlocal count\n        count += 1\n        return count\n    return inner\ninner = outer()"
)
def a_closure_there(w):
    return w.inner(), w.inner(), w.inner.__closure__[0].cell_contents


@CHAPTER.row("def kinds(*args): return [type(x).__name__ for x in args]")
def arguments_by_value_keep_their_types(w):
    return w.kinds(
        1, True, 1.5, 1j, "a", b"a", None, ..., (1,), frozenset(), range(3), slice(1), NotImplemented, 2**100
    )
