"""Iteration: iterators, generators and all that eats them."""

import itertools

from tests.conformance.rows import Chapter

CHAPTER = Chapter("iteration")
CHAPTER.lines(
    """
    def count(n):
        for i in range(n): yield i
    def broken():
        yield 1
        raise KeyError("in the middle")
    class Stairs:
        def __init__(self, n): self.n = n
        def __iter__(self): return iter(range(self.n))
    class Steps:
        def __init__(self, n): self.left = n
        def __iter__(self): return self
        def __next__(self):
            if not self.left: raise StopIteration
            self.left -= 1
            return self.left
    items, stairs, steps, table, text = [1, 2, 3], Stairs(3), Steps(3), {"a": 1}, type("T", (str,), {})("abc")
    def eat(xs): return [x for x in xs]
    def first(xs):
        for x in xs: return x
    """,
    "list(count(3)), tuple(count(2)), set(count(2)), sum(count(4)), sorted(count(3), reverse=True)",
    "list(stairs), list(stairs)",
    "list(steps), list(steps)",
    "walk = iter(items); next(walk), next(walk), next(walk), next(walk, 'end')",
    "walk = iter(items); list(walk), list(walk)",
    "next(count(0))",
    "next(count(0), 'default')",
    "next(items)",
    "list(broken())",
    "walk = broken(); next(walk), next(walk)",
    "iter(steps) is steps, iter(items) is iter(items), iter(walk := count(1)) is walk",
    "a, *b = count(4); (a, b)",
    "a, b = count(3)\na",
    "[*count(2), *stairs], {*count(2)}, (*count(1),)",
    "list(zip(count(2), items, stairs)), list(enumerate(count(2), 5)), list(map(lambda a, b: a + b, count(2), items))",
    "max(count(4)), min(stairs), any(count(1)), all(count(2)), 2 in count(5), 9 in stairs",
    "list(reversed(items)), list(reversed(table)), list(filter(None, count(3)))",
    "list(__import__('itertools').islice(count(100), 3)), list(__import__('itertools').chain(items, count(2)))",
    "list(__import__('itertools').pairwise(count(3))), list(__import__('itertools').product(items, repeat=1))",
    "walk = count(5); list(zip(walk, range(2))), next(walk)",
    "a, b = __import__('itertools').tee(count(3)); list(a), list(b)",
    "dict(zip('ab', count(2))), ''.join(text), ','.join(map(str, count(3)))",
    "list(iter(lambda: steps.left, 3)), list(iter(steps.__next__, 0))",
    "eat(iter([1, 2])), eat(x for x in 'ab'), eat({1: 2}), eat('ab'), eat(range(2)), eat(map(str, [1]))",
    "first([5, 6]), first(iter('xy')), first(x for x in (7,))",
    "eat(1)",
    "eat(1 / 0 for _ in 'a')",
    "for i in items:\n    if i == 2: break\ni",
    "[(i, j) for i in count(2) for j in stairs]",
    "len(list(__import__('itertools').takewhile(lambda x: x < 3, __import__('itertools').count())))",
    "count(3).__name__, type(count(1)).__name__, hasattr(count(1), 'send')",
    "list(table.items()), [k for k in table], [v for v in table.values()]",
    "for k in table:\n    table[k + 'x'] = 1",
    "walk = iter(table); table['new'] = 1; next(walk)",
    "walk = iter(items); items.append(4); list(walk)",
    "walk = iter(items); next(walk); __import__('operator').length_hint(walk)",
)
GENERATORS = """
log = []
def echo():
    got = None
    try:
        while True:
            try: got = yield got
            except KeyError as error: got = ("caught", error.args)
    finally:
        log.append("closed")
def adder():
    total = 0
    while True:
        x = yield total
        if x is None: return total
        total += x
def outer(inner):
    result = yield from inner
    return "outer", result
def stubborn():
    try: yield 1
    except GeneratorExit: yield 2
class Custom(Exception): pass
def guarded():
    try: yield 1
    except Custom as error: yield "custom", error.args
"""
CHAPTER.lines(
    GENERATORS,
    "walk = echo(); next(walk), walk.send(5), walk.send([1]), walk.throw(KeyError('k')), walk.close(), list(log)",
    "walk = echo(); walk.send(5)",
    "walk = echo(); next(walk); walk.throw(ValueError('v'))",
    "walk = echo(); next(walk); walk.throw(ValueError)",
    "walk = echo(); walk.close(); next(walk)",
    "walk = adder(); next(walk), walk.send(2), walk.send(3); walk.send(None)",
    "walk = stubborn(); next(walk); walk.close()",
    "walk = guarded(); next(walk); walk.throw(Custom('c'))",
    "walk = guarded(); next(walk); walk.throw(Custom)",
    "walk = echo(); next(walk); del walk; list(log)",
    about="generators: ",
)


@CHAPTER.row(GENERATORS)
def a_generator_of_ours_delegates_to_a_far_one(w):
    def outer():
        result = yield from w.adder()
        return "ours", result

    walk = outer()
    seen = [next(walk), walk.send(2), walk.send(5)]
    try:
        walk.send(None)
    except StopIteration as stop:
        return seen, stop.value


@CHAPTER.row(GENERATORS)
def throw_and_close_pass_through_a_delegation(w):
    def outer():
        yield from w.echo()

    walk = outer()
    next(walk)
    thrown = walk.throw(KeyError("k"))
    walk.close()
    return thrown, list(w.log)


@CHAPTER.row(GENERATORS)
def a_far_generator_delegates_to_ours(w):
    log = []

    def inner():
        try:
            got = yield 1
            yield ("got", got)
        finally:
            log.append("closed here")
        return "done"

    walk = w.outer(inner())
    seen = [next(walk), walk.send("x")]
    try:
        next(walk)
    except StopIteration as stop:
        return seen, stop.value, log


@CHAPTER.row("log = []\ndef walk():\n    for i in range(10): log.append(i); yield i")
def nothing_runs_ahead_of_a_generator(w):
    for i in w.walk():
        if i == 2:
            break
    return list(w.log)


@CHAPTER.row("def total(xs): return sum(xs)\ndef pairs(a, b): return list(zip(a, b))")
def they_eat_what_is_ours(w):
    def count():
        yield from (1, 2, 3)

    return w.total(count()), w.total([1, 2]), w.pairs(count(), itertools.count())


@CHAPTER.row(
    "class Tree:\n    def __init__(self, *kids): self.kids = kids\n    def __iter__(self):\n        for kid in self.kids:\n            yield kid\n            yield from kid\ntree = Tree(Tree(), Tree(Tree()))"
)
def a_recursive_iterator(w):
    return len(list(w.tree)), [len(list(kid)) for kid in w.tree.kids]


@CHAPTER.row("items = list(range(1000)); table = dict.fromkeys(range(600))")
def long_ones(w):
    return list(w.items) == list(range(1000)), list(w.table) == list(range(600)), sum(w.items)


@CHAPTER.row("items = list(range(10))")
def a_list_that_changes_while_it_is_walked(w):
    seen = []
    for x in w.items:
        seen.append(x)
        if x == 3:
            w.items.clear()
    return seen
