"""Containers: lists, dicts, sets, their relatives, and those that users write."""

from tests.conformance.rows import Chapter

CHAPTER = Chapter("containers")
CHAPTER.lines(
    "items = [3, 1, 2]; nested = [[1], [2, [3]]]",
    "len(items), bool(items), items[0], items[-1], items[1:], items[::-1], items[5:]",
    "items[3]",
    "items['a']",
    "items[0] = 9; items",
    "items[5] = 9",
    "items[1:2] = [7, 8]; items",
    "items[:] = (1,); items",
    "items[::2] = [7, 8]; items",
    "items[::2] = [7]",
    "del items[0]; items",
    "del items[:2]; items",
    "items.append(4); items.extend((5, 6)); items.insert(0, 9); items",
    "items.extend([7]); items.extend({8: 0}); items",
    "items.pop(), items.pop(0), items",
    "items.clear(); items.pop()",
    "items.remove(1); items",
    "items.remove(9)",
    "items.index(2), items.count(1)",
    "items.index(9)",
    "items.sort(); items",
    "items.sort(key=lambda x: -x, reverse=True); items",
    "items.reverse(); items",
    "items.copy() == items, items.copy() is items",
    "3 in items, 9 in items, 9 not in items",
    "list(items), tuple(items), set(items), sorted(items)",
    "[*items, 4], (0, *items)",
    "a, *b = items; (a, b)",
    "a, b = items; a",
    "sum(items), max(items), min(items), any(items), all(items)",
    "list(reversed(items)), list(enumerate(items)), list(zip(items, 'abc')), list(map(str, items))",
    "[x for x in items if x > 1]",
    "str(items), repr(items), f'{items}'",
    "'-'.join(map(str, items))",
    "nested[1][1][0], len(nested[1]), nested[1][1].append(4), nested",
    "nested == [[1], [2, [3]]], [[1], [2, [3]]] == nested",
    "[1] in nested, nested.index([1]), nested.count([1])",
    "nested.append(nested); nested",
    "__import__('bisect').bisect(items, 0), __import__('bisect').insort(items, 9), items",
    "__import__('heapq').heappop(items)",
    "__import__('random').Random(1).choice(items) in items",
    "slice(1, 2) == slice(1, 2), items[slice(1, None)]",
    about="list: ",
)
CHAPTER.lines(
    "table = {'a': 1, 'b': 2}; deep = {'x': {'y': [1]}}",
    "len(table), bool(table), table['a'], table.get('a'), table.get('z'), table.get('z', 0)",
    "table['z']",
    "table[[]]",
    "table['c'] = 3; table",
    "del table['a']; table",
    "del table['z']",
    "'a' in table, 1 in table, 'z' not in table",
    "[] in table",
    "list(table), list(table.keys()), list(table.values()), list(table.items())",
    "sorted(table), dict(table), {**table, 'c': 3}, dict(table, c=3), dict(table.items())",
    "table.pop('a'), table.pop('z', 5), table",
    "table.pop('z')",
    "table.popitem(), table",
    "table.setdefault('a', 9), table.setdefault('z', 9), table",
    "table.update({'b': 5}, c=6); table",
    "table.update([('q', 1)]); table",
    "table.clear(); table",
    "table.copy() == table, table.copy() is table",
    "table.fromkeys('ab', 0), type(table).__name__",
    "list(reversed(table)), list(reversed(table.items()))",
    "{k: v for k, v in table.items()}",
    "[k for k in table]",
    "deep['x']['y'][0], deep['x']['y'].append(2), deep",
    "str(table), repr(table.keys()), repr(table.items())",
    "len(table.keys()), 'a' in table.keys(), 1 in table.values()",
    "'{a} {b}'.format(**table), '%(a)s' % table, '{a}'.format_map(table)",
    "(lambda **k: k)(**table)",
    "sorted(table, key=table.get), max(table, key=table.get)",
    "here = {}; here.update(table); here",
    "for key in table: table[key * 2] = 1\nlen(table)",
    about="dict: ",
)
CHAPTER.lines(
    "some = {1, 2, 3}",
    "len(some), 1 in some, 9 in some, sorted(some)",
    "some.add(4); sorted(some)",
    "some.discard(9); some.remove(1); sorted(some)",
    "some.remove(9)",
    "[] in some",
    "some.union([4]), some.intersection([1]), some.difference([1]), some.isdisjoint([9]), some.issubset(range(9))",
    "some.update([4], {5}); sorted(some)",
    "set(some), frozenset(some) == {1, 2, 3}",
    "{1, 2}.union(some), {1}.issubset(some), {9}.isdisjoint(some)",
    "len([some.pop() for _ in range(3)]), some.clear(), len(some)",
    about="set: ",
)
CHAPTER.lines(
    """
    from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
    from array import array
    from types import MappingProxyType, SimpleNamespace
    queue, count, ordered, groups = deque([1, 2, 3], 3), Counter("abca"), OrderedDict(b=1, a=2), defaultdict(list)
    chain, Point, numbers, view = ChainMap({'a': 1}, {'b': 2}), namedtuple("Point", "x y"), array("i", [1, 2]), MappingProxyType({'a': 1})
    point, ns, users, userd = Point(1, 2), SimpleNamespace(a=1), UserList([1, 2]), UserDict(a=1)
    data, text, both = bytearray(b"abc"), type("Text", (str,), {})("a,b"), memoryview(b"xyz")
    """,
    "queue.appendleft(0); queue.rotate(1); queue, queue.maxlen, list(queue)",
    "queue[0], queue.popleft(), len(queue), 2 in queue, queue == __import__('collections').deque([2, 3])",
    "count['a'], count['z'], count.most_common(1), count + count, count.total()",
    "count.update('zz'); sorted(count.elements())",
    "ordered.move_to_end('b'); list(ordered), ordered == {'a': 2, 'b': 1}",
    "groups['x'].append(1); groups['x'], dict(groups), groups.default_factory",
    "chain['b'], chain.maps[0], list(chain), chain.new_child({'c': 3})['c']",
    "point.x, point[1], point == (1, 2), (1, 2) == point, point._replace(x=5), point._asdict(), point._fields",
    "x, y = point; (x, y, len(point), point + (3,), hash(point) == hash((1, 2)))",
    "Point(3, 4).x, Point._make([5, 6]), Point(x=1, y=2) == point",
    "Point(1)",
    "point.x = 5",
    "numbers[0], numbers.tolist(), list(numbers), numbers.append(3), numbers.typecode, len(numbers)",
    "numbers.append('x')",
    "view['a'], dict(view), list(view.items())",
    "view['b'] = 1",
    "ns.a, ns, ns == SimpleNamespace(a=1), ns == __import__('types').SimpleNamespace(a=1)",
    "ns.b = 2; vars(ns)",
    "users + [3], [0] + users, users == [1, 2], users.data",
    "userd['a'], userd | {'b': 1}, {'b': 1} | userd, 'a' in userd, userd.data",
    "data[0], data[1:], data.decode(), data.upper(), bytes(data), list(data), data.hex()",
    "data[0] = 65; data += b'!'; data",
    "data[0] = 500",
    "data.extend(b'xy'); data.find(b'b'), len(data), b'b' in data, 97 in data",
    "b'-'.join([bytes(data), b'x'])",
    "text.split(','), text.upper(), text[0], len(text), 'a' in text, list(text), text.encode()",
    "','.join(text), text.replace('a', 'x'), text.startswith('a'), text.format(), text.partition(',')",
    "both[0], both[1:].tobytes(), len(both), bytes(both), both.tolist(), both.readonly",
    about="relatives: ",
)
CHAPTER.lines(
    """
    class Only:
        def __getitem__(self, key):
            if isinstance(key, int) and key >= 3: raise IndexError(key)
            return key
    class Sized(Only):
        def __len__(self): return 3
    class Table(dict):
        def __missing__(self, key): return ("missing", key)
    class Loud(list):
        def append(self, item): super().append(item * 2)
        def __getitem__(self, key): return ("loud", super().__getitem__(key))
    only, sized, table, loud = Only(), Sized(), Table(a=1), Loud([1])
    """,
    "only[1], only['a'], only[1:2], only[1, 2], only[...], only[None], only[1:2, ::3]",
    "list(only), 2 in only, 5 in only",
    "len(only)",
    "reversed(only)",
    "list(reversed(sized)), bool(sized), len(sized)",
    "only[0] = 1",
    "del only[0]",
    "table['a'], table['b'], table.get('b'), 'b' in table",
    "loud.append(2); loud[1], list(loud), len(loud), loud",
    "isinstance(loud, list), isinstance(table, dict), loud == [1], table == {'a': 1}",
    about="of users: ",
)


@CHAPTER.row("far = []")
def what_is_put_in_comes_out_itself(w):
    mine = object()
    w.far.append(mine)
    found = w.far[0] is mine, mine in w.far, w.far.index(mine), w.far.count(mine)
    w.far.remove(mine)
    return found, len(w.far)


@CHAPTER.row("far = {}")
def objects_of_ours_are_keys_and_values_there(w):
    key, value = object(), [1]
    w.far[key] = value
    return w.far[key] is value, key in w.far, list(w.far)[0] is key, w.far.pop(key) is value, len(w.far)


@CHAPTER.row("one = [1]; two = (1,)")
def far_objects_are_keys_here(w):
    here = {w.two: "two"}
    try:
        here[w.one] = "one"
    except TypeError as error:
        return here[w.two], error


@CHAPTER.row("matrix = [[0] * 3 for _ in range(3)]")
def nested_assignment(w):
    for i, row in enumerate(w.matrix):
        row[i] = 1
    w.matrix[0][1:] = [5, 6]
    return w.matrix


@CHAPTER.row(
    "class Grid:\n    def __init__(self): self.cells = {}\n    def __setitem__(self, at, v): self.cells[at] = v\n    def __getitem__(self, at): return self.cells[at]\n    def __delitem__(self, at): del self.cells[at]\ngrid = Grid()"
)
def keys_are_tuples(w):
    w.grid[1, 2] = "a"
    got = w.grid[1, 2]
    del w.grid[1, 2]
    try:
        w.grid[1, 2]
    except KeyError as error:
        return got, error


@CHAPTER.row("items = [5, 3, 4]")
def a_list_of_ours_filled_from_there(w):
    here = [1]
    here.extend(w.items)
    here[1:1] = w.items
    return here, here.index(3)


@CHAPTER.row(
    "def fill(target, n):\n    for i in range(n): target.append(i)\n    target[0] = 'first'\n    del target[1]\n    return len(target), 2 in target, target == target, sorted(target[1:]), isinstance(target, list)"
)
def a_list_of_ours_filled_by_them(w):
    here = []
    return w.fill(here, 4), here


@CHAPTER.row(
    "def fill(target):\n    target['a'] = 1\n    target.update(b=2)\n    return sorted(target.items()), target.pop('a'), 'b' in target, dict(target), {**target}"
)
def a_dict_of_ours_filled_by_them(w):
    here = {}
    return w.fill(here), here
