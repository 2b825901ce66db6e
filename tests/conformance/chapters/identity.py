"""Identity and equality: one proxy for each object, and an object that comes home is itself."""

import gc
import weakref

from tests.conformance.rows import Chapter

CHAPTER = Chapter("identity")
SETUP = """
class Thing:
    def __init__(self, n=0): self.n = n; self.kept = None
    def method(self): return self.n
    def other(self): pass
    def __call__(self): pass
class Money:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return isinstance(other, Money) and self.n == other.n
    def __hash__(self): return hash(self.n)
thing, second, items, money = Thing(), Thing(), [], Money(5)
def echo(x): return x
def same(a, b): return a is b
def equal(a, b): return a == b
def keep(x): thing.kept = x
def kept(): return thing.kept
def function(): pass
"""
CHAPTER.lines(
    SETUP,
    "thing is echo(thing), thing is second, echo is echo(echo), items is echo(items), Thing is echo(Thing)",
    "same(thing, thing), same(thing, second), same(thing, echo(thing)), equal(thing, thing)",
    "thing == thing, thing == second, thing != second, thing == 5, 5 == thing, thing is not None, thing == None",
    "[thing, items][0] is thing, (thing,)[0] is thing, echo((thing, [thing]))[0] is thing",
    "thing in [second, thing], [second, thing].index(thing), [thing, thing].count(thing)",
    "hash(thing) == hash(echo(thing)), len({thing, echo(thing), second}), {thing: 1}[echo(thing)]",
    "money == echo(money), money == Money(5), money == Money(6), hash(money) == hash(Money(5)), len({money, Money(5)}), hash(money) == hash(5)",
    "hash(items)",
    "{items: 1}",
    "thing.method == thing.method, thing.method == second.method, thing.method != thing.other, hash(thing.method) == hash(thing.method)",
    "thing.method in [thing.method], {thing.method: 1}[thing.method], thing.method is thing.method",
    "Thing.method is Thing.method, Thing.method == Thing.method, len == len, function == function, function is function",
    "items.append == items.append, items.append == [].append, money.__eq__ == money.__eq__",
    "thing.kept = thing; thing.kept is thing, thing.kept.kept is thing",
    "items.append(items); items[0] is items",
    "not thing, bool(thing), bool(items), not items",
    "thing < second",
    "sorted([thing, second])",
    "(thing, 1) == (thing, 1), [thing] == [thing], [thing] == [second]",
    "id(thing) == id(echo(thing))",
)


@CHAPTER.row(SETUP)
def what_is_ours_comes_home_as_itself(w):
    def function():
        pass

    class Mine:
        def method(self):
            pass

    mine = Mine()
    for one in (function, mine, Mine, [1], {}, mine.method):
        w.keep(one)
        assert w.kept() is one or one == mine.method, one
        assert w.same(one, w.echo(one)) or one == mine.method, one
    w.keep(None)
    return w.echo((mine, [mine], mine))[0] is mine, w.equal(mine, mine), w.equal(mine.method, mine.method)


@CHAPTER.row(SETUP)
def weak_references(w):
    thing = w.Thing()
    ref = weakref.ref(thing)
    alive = ref() is thing
    del thing
    gc.collect(0)
    return alive, ref()


@CHAPTER.row(SETUP)
def weak_dictionaries_and_finalizers(w):
    died = []
    thing = w.Thing()
    weakref.finalize(thing, died.append, "died")
    table = weakref.WeakKeyDictionary({thing: 1})
    before = table[thing], len(table)
    del thing
    return before, len(table), died


@CHAPTER.row(
    "import weakref\nclass Thing: pass\nheld = [Thing()]\ndied = []\ndef watch(): weakref.finalize(held[0], died.append, 'died')"
)
def weak_references_there(w):
    ref = w.weakref.ref(w.held[0])
    alive = ref() is w.held[0]
    w.watch()
    w.held.clear()
    return alive, ref(), list(w.died)


BEYOND = """
class Thing:
    def __init__(self): self.x = 1
    def method(self): return self.x
thing, items = Thing(), [1, 2]
def echo(x): return x
def call(f, *args): return f(*args)
def same(a, b): return a is b
def fail(): raise KeyError("beyond")
class Custom(Exception): pass
def custom(): raise Custom("beyond", 5)
"""


@CHAPTER.row(SETUP, BEYOND)
def an_object_from_beyond_is_one_object(w):
    thing = w.beyond.thing
    return (
        thing is w.echo(thing),
        thing is w.beyond.echo(thing),
        w.same(thing, thing),
        w.beyond.same(thing, thing),
        thing.x,
    )


@CHAPTER.row(SETUP, BEYOND)
def an_object_of_ours_comes_home_from_beyond(w):
    mine = [1]
    far = w.beyond.echo(mine)
    return far is mine, w.beyond.call(w.echo, mine) is mine, w.beyond.same(mine, mine)


@CHAPTER.row(SETUP, BEYOND)
def an_object_of_the_middle_comes_home_from_beyond(w):
    return (
        w.beyond.echo(w.thing) is w.thing,
        w.same(w.thing, w.beyond.echo(w.thing)),
        w.beyond.call(w.echo, w.thing) is w.thing,
    )


@CHAPTER.row(SETUP, BEYOND)
def things_beyond_are_used_from_here(w):
    beyond = w.beyond
    beyond.items.append(3)
    beyond.thing.x = 5
    return (
        len(beyond.items),
        list(beyond.items),
        [0] + beyond.items,
        beyond.thing.method(),
        isinstance(beyond.items, list),
        isinstance(beyond.thing, beyond.Thing),
        isinstance(w.thing, beyond.Thing),
        beyond.call(lambda x: x + 1, 4),
        hasattr(beyond.thing, "nothing"),
    )


@CHAPTER.row(SETUP, BEYOND)
def exceptions_from_beyond(w):
    try:
        w.beyond.fail()
    except KeyError as error:
        first = error
    try:
        w.beyond.custom()
    except w.beyond.Custom as error:
        return first, error, type(error).__name__


@CHAPTER.row(SETUP, BEYOND)
def callbacks_from_beyond(w):
    seen = []
    w.beyond.call(seen.append, 1)
    w.beyond.call(w.keep, 2)
    w.beyond.call(w.items.append, seen)
    return seen, w.kept(), w.items[0] is seen


@CHAPTER.row(SETUP)
def dropped_and_met_again(w):
    w.items.append(5)
    thing = w.thing
    thing.n = 7
    del thing
    gc.collect(0)
    return w.thing.n, w.items


@CHAPTER.row(SETUP)
def a_cycle_across(w):
    class Mine:
        pass

    mine = Mine()
    mine.far = w.thing
    w.thing.kept = mine
    found = w.thing.kept is mine, w.thing.kept.far is w.thing
    w.thing.kept = None
    return found
