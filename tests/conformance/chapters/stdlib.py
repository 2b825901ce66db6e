"""The standard library's objects, used as their users do."""

import io
import itertools
import operator
import re
import shutil
import statistics
import textwrap
from unittest import mock

from tests.conformance.rows import Chapter

CHAPTER = Chapter("standard library")
CHAPTER.lines(
    """
    import datetime, decimal, fractions, random, re, uuid, zoneinfo
    D, pattern = decimal.Decimal, re.compile(r"(?P<word>\\w+)-(\\d+)")
    day, moment, delta = datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 2, 3, 4, 5), datetime.timedelta(hours=36)
    utc, name, dice = datetime.timezone.utc, uuid.UUID(int=5), random.Random(7)
    match = pattern.search("see ab-12, cd-34")
    """,
    "D('1.10') + D('2.2'), D('1') / 3, D('2').sqrt(), D('1.5').quantize(D('1')), D('7') // 2, D('-7') % 3, D(1).compare(2)",
    "D('1.0') == D('1.00'), hash(D(1)) == hash(1), D('NaN').is_nan(), str(D('1E+5')), D('1.5').as_tuple(), int(D('7.9'))",
    "sum(D(i) for i in range(4)), max(D(1), D(2)), sorted([D(3), D(1)]), [D(1), D(2)].index(D(2))",
    "D('x')",
    "D(1) / 0",
    "decimal.getcontext().prec, decimal.localcontext().__class__.__name__",
    "with decimal.localcontext() as c:\n    c.prec = 3\nD(1) / 3",
    "day.year, day.isoformat(), day.strftime('%d/%m'), day.replace(day=1), day.weekday(), day + delta, day - datetime.date(2024, 1, 1)",
    "moment + delta, moment - datetime.datetime(2023, 1, 1), moment.date() == datetime.date(2024, 1, 2), moment.time(), moment < datetime.datetime(2025, 1, 1)",
    "moment.replace(tzinfo=utc).isoformat(), moment.astimezone(utc).tzinfo is utc, datetime.datetime.fromisoformat('2024-01-01') < moment",
    "delta.total_seconds(), delta * 2, delta / 2, delta // datetime.timedelta(hours=1), -delta, abs(-delta), delta > datetime.timedelta(0), str(delta)",
    "min(day, datetime.date(2023, 1, 1)), sorted([day, datetime.date(2023, 1, 1)]), {day: 1}[datetime.date(2024, 2, 29)], day == datetime.date(2024, 2, 29)",
    "day < moment",
    "day + 1",
    "match.group(), match.groups(), match['word'], match.groupdict(), match.span(), match.start(2), match.re is pattern, bool(match)",
    "pattern.sub(lambda m: m['word'].upper(), 'ab-1 cd-2'), pattern.findall('ab-1 cd-2'), [m.group(2) for m in pattern.finditer('ab-1 cd-2')]",
    "pattern.match('nothing'), pattern.fullmatch('a-1').expand(r'\\2'), pattern.split('x ab-1 y'), pattern.pattern, pattern.flags",
    "str(name), name.int, name == __import__('uuid').UUID(int=5), name.hex",
    "dice.random() == __import__('random').Random(7).random(), dice.choice([5]), sorted(dice.sample(range(3), 3))",
    about="numbers, dates, texts: ",
)


@CHAPTER.row(
    "import pathlib, tempfile\nholder = tempfile.TemporaryDirectory()\nroot = pathlib.Path(holder.name)\nbase = pathlib.PurePosixPath('/a')"
)
def paths(w):
    root = w.root
    path = root / "a" / "b.txt"
    path.parent.mkdir()
    path.write_text("text")
    found = (
        path.read_text(),
        path.exists(),
        path.name,
        path.suffix,
        path.stem,
        path.parent == root / "a",
        [one.name for one in sorted(root.iterdir())],
        [one.name for one in root.rglob("*.txt")],
        path.stat().st_size,
        path.relative_to(root).as_posix(),
        "x" / w.base,
        w.base / "b" / "c",
        w.base.joinpath("x").parts,
        path.with_suffix(".md").name,
        isinstance(path, w.pathlib.Path),
        path < root / "b",
        str(w.base),
        {w.base: 1}[w.pathlib.PurePosixPath("/a")],
    )
    path.unlink()
    w.holder.cleanup()
    return found, root.exists()


@CHAPTER.row(
    "import tempfile, os\nholder = tempfile.TemporaryDirectory()\nname = os.path.join(holder.name, 'f')\ndef reopen(mode): return open(name, mode)"
)
def files(w):
    with w.reopen("w") as file:
        count = file.write("one\ntwo\nthree")
        file.writelines(["\n", "four"])
        print("five", file=file)
        state = file.name == w.name, file.mode, file.closed, file.writable(), file.readable()
    closed = file.closed
    with w.reopen("r") as file:
        first, second = next(file), file.readline()
        rest = list(file)
        file.seek(0)
        lines = [line.strip() for line in file]
        file.seek(4)
        tail = file.read(3), file.tell(), file.read(), file.read()
    with w.reopen("rb") as file:
        raw = file.read(3), file.peek(1)[:1], isinstance(file, io.BufferedReader), isinstance(file, io.IOBase)
    try:
        file.read()
    except ValueError as error:
        after = error
    w.holder.cleanup()
    return count, state, closed, first, second, rest, lines, tail, raw, after


@CHAPTER.row(
    "import io\nbuffer, text = io.BytesIO(b'abcdef'), io.StringIO()\ndef copy(source, target): import shutil; shutil.copyfileobj(source, target)"
)
def streams_in_memory(w):
    here = bytearray(2)
    source = io.StringIO("copied")
    w.copy(source, w.text)
    target = io.BytesIO()
    shutil.copyfileobj(w.buffer, target)
    w.buffer.seek(0)
    return w.buffer.read(2), w.buffer.readinto(here), here, w.buffer.getvalue(), w.text.getvalue(), target.getvalue()


@CHAPTER.row("import io\nbuffer = io.BytesIO(b'a,b\\nc,d\\n')")
def text_wrapper_of_ours_around_a_far_buffer(w):
    return list(io.TextIOWrapper(w.buffer, encoding="ascii"))


@CHAPTER.row(
    "import csv, io\ntext = io.StringIO('a,b\\n1,2\\n')\nout = io.StringIO()\nreader = csv.DictReader(text)\nwriter = csv.writer(out)"
)
def csv_files(w):
    import csv

    rows = [dict(row) for row in w.reader]
    w.writer.writerow([1, "x y"])
    csv.writer(w.out).writerow([3, 4])
    w.text.seek(0)
    return rows, w.out.getvalue(), list(csv.reader(w.text))


@CHAPTER.row("""
    import sqlite3
    base = sqlite3.connect(":memory:", check_same_thread=True)
    base.row_factory = sqlite3.Row
    """)
def sqlite(w):
    base = w.base
    with base:
        base.execute("create table t (n integer, s text)")
        base.executemany("insert into t values (?, ?)", [(1, "a"), (2, "b"), (3, None)])
    cursor = base.execute("select * from t order by n")
    first = cursor.fetchone()
    rest = [(row["n"], row[1]) for row in cursor]
    base.create_function("double", 1, lambda x: 2 * x)
    doubled = [tuple(row) for row in base.execute("select double(n) from t")]
    try:
        with base:
            base.execute("insert into t values (4, 'd')")
            raise KeyError("roll it back")
    except KeyError:
        pass
    count = base.execute("select count(*) from t").fetchone()[0]
    try:
        base.execute("nonsense")
    except w.sqlite3.OperationalError as error:
        failed = error, isinstance(error, w.sqlite3.Error)
    base.close()
    return first["s"], list(first.keys()), rest, cursor.description[0][0], doubled, count, failed


@CHAPTER.row(
    "import threading\nlock, rlock, event, semaphore = threading.Lock(), threading.RLock(), threading.Event(), threading.Semaphore(1)\nlocal, condition = threading.local(), threading.Condition()"
)
def threading_objects(w):
    with w.rlock, w.rlock:
        nested = True
    taken = w.lock.acquire(), w.lock.acquire(blocking=False), w.lock.acquire(timeout=0.001)
    w.lock.release()
    w.local.x = 5
    w.event.set()
    with w.condition:
        waited = w.condition.wait(0.001)
        w.condition.notify_all()
    try:
        w.rlock.release()
    except RuntimeError as error:
        unowned = error
    return nested, taken, w.lock.locked(), w.local.x, w.event.is_set(), w.event.wait(), waited, unowned


@CHAPTER.row("import threading, queue\nbox = queue.Queue()")
def threads_and_queues(w):
    def work():
        for _ in range(3):
            w.box.put(w.box.get() * 2)

    w.box.put(1)
    thread = w.threading.Thread(target=work)
    thread.start()
    thread.join()
    return w.box.get(), w.box.empty(), thread.is_alive()


@CHAPTER.row(
    "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\ndef square(x): return x * x"
)
def a_far_pool(w):
    with w.pool as pool:
        mine = pool.submit(lambda: 6 * 7).result()
        theirs = list(pool.map(w.square, [1, 2, 3]))
        failing = pool.submit(lambda: 1 / 0).exception()
    return mine, theirs, failing


@CHAPTER.row(
    "import logging\nlog = logging.Logger('far', logging.DEBUG)\nclass Keep(logging.Handler):\n    def __init__(self): super().__init__(); self.lines = []\n    def emit(self, record): self.lines.append(self.format(record))\nkeep = Keep()"
)
def logging_there(w):
    w.log.addHandler(w.keep)
    w.log.info("hello %s", "world")
    w.log.warning("list %s", [1])
    try:
        raise KeyError("k")
    except KeyError:
        w.log.exception("failed")
    return w.keep.lines[:2], w.keep.lines[2].splitlines()[0], w.log.level, w.log.isEnabledFor(10)


@CHAPTER.row(
    "class Handlerish:\n    def __init__(self): self.lines = []\n    def write(self, text): self.lines.append(text)\n    def flush(self): pass\nsink = Handlerish()\nclass Thing:\n    def __str__(self): return 'a thing'\nthing = Thing()"
)
def logging_here_of_far_things(w):
    import logging

    logger = logging.Logger("near")
    logger.addHandler(logging.StreamHandler(w.sink))
    logger.warning("it is %s", w.thing)
    print(w.thing, 5, file=w.sink)
    return "".join(w.sink.lines)


@CHAPTER.row(
    "from unittest import mock\nclass Thing:\n    def method(self, x): return self.helper(x)\n    def helper(self, x): return x + 1\nthing, double = Thing(), mock.MagicMock(return_value=5)"
)
def mocks(w):
    with mock.patch.object(w.thing, "helper", return_value=42) as patched:
        inside = w.thing.method(1)
    theirs = w.double(1, a=2), w.double.call_count, w.double.assert_called_with(1, a=2), w.double.called
    ours = mock.Mock(return_value=7)
    w.thing.helper = ours
    replaced = w.thing.method(3)
    del w.thing.helper
    return inside, patched.call_args.args, theirs, replaced, ours.call_args.args, w.thing.method(1)


@CHAPTER.row("from unittest import mock\ndouble = mock.Mock()\ndouble.method.side_effect = [1, ValueError('second')]")
def far_mocks_remember(w):
    first = w.double.method("a")
    try:
        w.double.method()
    except ValueError as error:
        return first, error, w.double.method.call_args_list[0].args, w.double.method.call_count


@CHAPTER.row(
    "import subprocess, sys\ndef run(code): return subprocess.run([sys.executable, '-S', '-c', code], capture_output=True, text=True)"
)
def subprocesses(w):
    done = w.run("print('out'); raise SystemExit(3)")
    process = w.subprocess.Popen(["cat"], stdin=w.subprocess.PIPE, stdout=w.subprocess.PIPE, text=True)
    out, _ = process.communicate("hello")
    return done.stdout, done.returncode, done.stderr, out, process.returncode, process.poll()


@CHAPTER.row(
    "import itertools, operator, functools\ncount, cycle = itertools.count(5), itertools.cycle('ab')\ngroups = itertools.groupby('aabb')\nget = operator.itemgetter(1)"
)
def tools_of_theirs(w):
    return (
        next(w.count),
        next(w.count),
        [next(w.cycle) for _ in range(3)],
        [(key, list(group)) for key, group in w.groups],
        w.get([5, 6]),
        sorted([(1, "b"), (0, "c")], key=w.get),
        list(w.itertools.chain([1], (2,), {3: 0})),
        w.functools.reduce(lambda a, b: a * b, [1, 2, 3]),
        list(w.itertools.accumulate([1, 2, 3], lambda a, b: a + b)),
    )


@CHAPTER.row("words = ['bb', 'a', 'ccc']\npairs = [('b', 1), ('a', 2), ('b', 3)]\nnumbers = [1, 2, 4]")
def tools_of_ours_on_far_things(w):
    return (
        sorted(w.words, key=len),
        list(map(operator.itemgetter(1), w.pairs)),
        [(key, len(list(group))) for key, group in itertools.groupby(sorted(w.pairs), key=operator.itemgetter(0))],
        statistics.mean(w.numbers),
        list(itertools.combinations(w.numbers, 2)),
        list(itertools.zip_longest(w.words, w.numbers[:1])),
        dict(w.pairs),
        textwrap.shorten(" ".join(w.words), 6, placeholder="~"),
        re.sub("a", "x", " ".join(w.words)),
        list(map(operator.add, w.numbers, w.numbers)),
        max(w.words, key=len),
    )


@CHAPTER.row("from collections import Counter, defaultdict\npairs, words = [('a', 1), ('b', 2)], ['x', 'y', 'x']")
def collections_of_ours_filled_from_there(w):
    import collections

    groups = collections.defaultdict(list)
    for key, value in w.pairs:
        groups[key].append(value)
    return (
        collections.Counter(w.words),
        collections.OrderedDict(w.pairs),
        collections.deque(w.words, maxlen=2),
        groups,
        collections.ChainMap(dict(w.pairs), {"z": 0})["a"],
        set(w.words),
        collections.Counter("x") + w.Counter("xy"),
    )


@CHAPTER.row("import json\ndata = {'b': [1, 2.5, None], 'a': 'ü'}\ntext = json.dumps(data)")
def json_there(w):
    return (
        w.json.loads(w.text) == w.data,
        w.json.dumps([1, {"x": None}]),
        w.json.dumps(w.data, sort_keys=True),
        w.json.loads("[1]")[0],
    )


@CHAPTER.row("import os, sys, time, platform")
def modules(w):
    return (
        w.os.path.join("a", "b"),
        w.os.path.exists("/"),
        w.os.sep,
        isinstance(w.os.getpid(), int),
        "PATH" in w.os.environ,
        w.os.environ.get("NO_SUCH_VARIABLE", "default"),
        w.sys.version_info[0],
        w.sys.version_info >= (3, 8),
        w.sys.maxsize,
        type(w.time.time()).__name__,
        w.os.path is w.os.path,
        w.sys.modules["os"] is w.os,
        w.platform.python_implementation(),
    )


@CHAPTER.row(
    "import configparser\nconfig = configparser.ConfigParser()\nconfig.read_string('[a]\\nx = 1\\n[b]\\ny = yes')"
)
def configparser_objects(w):
    return (
        w.config["a"]["x"],
        w.config.getint("a", "x"),
        w.config["b"].getboolean("y"),
        w.config.sections(),
        "a" in w.config,
        dict(w.config["a"]),
    )


@CHAPTER.row(
    "import string, array, struct, hashlib, base64, zlib, heapq, bisect\nhash_ = hashlib.sha256(b'a')\nlayout = struct.Struct('>HI')\nheap = [3, 1, 2]"
)
def bytes_and_algorithms(w):
    w.hash_.update(b"b")
    w.heapq.heapify(w.heap)
    return (
        w.hash_.hexdigest()[:8],
        w.layout.pack(1, 2),
        w.layout.unpack(b"\0\1\0\0\0\2"),
        w.base64.b64encode(b"abc"),
        w.zlib.decompress(w.zlib.compress(b"x" * 1000)) == b"x" * 1000,
        w.heapq.heappop(w.heap),
        w.bisect.bisect([1, 3], 2),
        w.string.Template("$a b").substitute(a=5),
    )


@CHAPTER.row(
    "import ast, inspect, types\ntree = ast.parse('x = 1 + 2')\ndef f(a, b=1): return a\nns = types.SimpleNamespace(a=1)"
)
def trees_and_namespaces(w):
    return (
        w.tree.body[0].value.op.__class__.__name__,
        [type(n).__name__ for n in w.ast.walk(w.tree)],
        w.ns.a,
        w.ast.unparse(w.tree),
    )


@CHAPTER.row("import xml.etree.ElementTree as ET\nroot = ET.fromstring('<a x=\"1\"><b>t</b><b/></a>')")
def elements(w):
    return (
        w.root.tag,
        w.root.get("x"),
        len(w.root),
        [child.text for child in w.root],
        w.root.find("b").text,
        w.ET.tostring(w.root),
    )


@CHAPTER.row("import contextvars\nvar = contextvars.ContextVar('var', default=1)\ncontext = contextvars.copy_context()")
def context_variables(w):
    token = w.var.set(5)
    value = w.var.get()
    w.var.reset(token)
    return value, w.var.get(), w.context.run(lambda: 7), len(w.context) >= 0


@CHAPTER.row(
    "import argparse\nparser = argparse.ArgumentParser(prog='p')\nparser.add_argument('n', type=int)\nparser.add_argument('--flag', action='store_true')"
)
def argument_parsers(w):
    parsed = w.parser.parse_args(["5", "--flag"])
    return parsed.n, parsed.flag, vars(parsed), parsed


@CHAPTER.row(
    "import asyncio\nasync def work(x): await asyncio.sleep(0); return x * 2\ndef run(x): return asyncio.run(work(x))"
)
def an_event_loop_of_theirs(w):
    return w.run(4)
