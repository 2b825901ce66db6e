"""The finder of places in TOML text: it knows exactly the paths that tomllib knows."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.toml_positions import Path, find_positions

CHAIN = """\
# a chain
[node]
name = "hq"   # who

[[dial]]
url = "stdio:sh -c 'echo [dial]'"
[[dial]]
via = "relay"
url = '''
tcp://10.1.0.7:18860'''

[[serve]]
service = "classic"
allow = [
    "*",  # anyone
    "uid:0",
]
"""


def test_a_key_stands_where_its_name_begins() -> None:
    places = find_positions(CHAIN)
    assert places["node", "name"] == (3, 1)
    assert places["dial", 0] == (5, 3)
    assert places["dial", 1, "url"] == (9, 1)
    assert places["serve", 0, "allow", 1] == (16, 5)


@pytest.mark.parametrize(
    "text",
    [
        CHAIN,
        "",
        "a.b.'c.d'.\"e\\u00e9\" = 1",
        "[a.b]\n[a]\nc = 2",
        "[[a]]\n[a.b]\n[[a.b.c]]\n[[a]]\n[a.b]\nx = 1\n[[a.b.c]]\n[[a.b.c]]",
        "d = 1979-05-27 07:32:00 # with a space\nf = [ 1.5 , inf, 0x1f,]",
        'm = """a ""quoted"" \\""" \n""""\nn = \'\'\'x\'\'\'\'\'',
        "t = {a.b = [{c = 1}, {}], d = '}'}\r\nu = []\r\n",
        'x = """\\\n  folded = 1 \\\n"""',
        "'' = 1",
    ],
)
def test_it_finds_what_tomllib_finds(text: str) -> None:
    document = tomllib.loads(text)
    assert set(find_positions(text)) == set(paths(document))


bare = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=4)
printable = st.characters(blacklist_categories=["Cs", "Cc"])
literal = st.text(printable.filter(lambda c: c != "'"), max_size=6)
escaped = st.text(printable, max_size=6).map(lambda text: text.replace("\\", "\\\\").replace('"', '\\"'))
key_parts = bare | literal.map("'{}'".format) | escaped.map('"{}"'.format)
blank = st.sampled_from(["", " ", "\t", "  "])
newline = st.sampled_from(["\n", "\r\n", " # no [key] = {here}\n", "\n\n"])


@st.composite
def dotted(draw: st.DrawFn) -> str:
    parts = draw(st.lists(key_parts, min_size=1, max_size=3))
    return (draw(blank) + "." + draw(blank)).join(parts)


atoms = st.one_of(
    st.sampled_from(["1", "-2.5e3", "true", "nan", "0xdead_beef", "1979-05-27", "1979-05-27 07:32:00Z", "07:32:00"]),
    literal.map("'{}'".format),
    escaped.map('"{}"'.format),
    escaped.map('"""\n{}\\"""\\\n  """'.format),
    literal.map("'''{}\n = [ {{ '''".format),
    st.sampled_from(['"""a"b""c"""', '"""x""""', '"""x"""""', "'''y''''", "'''y'''''", '"\\u00e9\\\\"']),
)


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    items = draw(st.lists(values, max_size=3))
    gap = draw(st.sampled_from(["", " ", "\n  ", " # ]\n"]))
    trailing = "," if items and draw(st.booleans()) else ""
    return "[" + gap + ("," + gap).join(items) + gap + trailing + gap + "]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    pairs = [f"{draw(dotted())}{draw(blank)}={draw(blank)}{draw(values)}" for _ in range(draw(st.integers(0, 3)))]
    return "{" + draw(blank) + ", ".join(pairs) + draw(blank) + "}"


values = st.recursive(atoms, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)


@st.composite
def documents(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        match draw(st.sampled_from(["pair", "pair", "table", "array"])):
            case "table":
                line = f"[{draw(blank)}{draw(dotted())}{draw(blank)}]"
            case "array":
                line = f"[[{draw(dotted())}{draw(blank)}]]"
            case _:
                line = f"{draw(dotted())}{draw(blank)}={draw(blank)}{draw(values)}"
        lines.append(draw(blank) + line + draw(blank) + draw(newline))
    return "".join(lines)


@given(documents())
def test_it_finds_exactly_the_paths_of_any_text_tomllib_takes(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(find_positions(text)) == set(paths(document))


@given(documents())
def test_every_place_is_in_the_text(text: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = text.replace("\r\n", "\n").split("\n")
    for path, (line, column) in find_positions(text).items():
        last = path[-1]
        if isinstance(last, str) and last.isidentifier() and last.isascii():
            assert lines[line - 1][column - 1 :].lstrip("\"'").startswith(last)


def paths(value: object, here: Path = ()) -> Iterator[Path]:
    if here:
        yield here
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*here, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*here, index))
