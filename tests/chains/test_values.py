"""Values between real processes, three links apart: each knows only the codecs that were registered in it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

import rpyc_gateway as gw
from rpyc_gateway.proto import codecs, values
from tests.chains.processes import LOOPBACK, House, connect_when_up, dial, listen, open_house

PICKLE = '[[serve]]\nservice = "classic"\nallow = ["*"]\npickle = true\n'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with open_house() as house:
        chain(house)
        yield house.socket("hq")


def chain(house: House) -> None:
    lab = house.start("lab", listen(LOOPBACK) + PICKLE)
    relay = house.start("relay", listen(LOOPBACK) + dial(lab.url))
    hq = house.start("hq", listen(house.socket("hq")) + dial(relay.url))
    connect_when_up(hq.url, "lab").close()


@pytest.fixture
def conn(url: str) -> Iterator[gw.BlockingSession]:
    before = dict(codecs._CODED), dict(values.WRITERS)
    with gw.connect(url, node="lab", name="me") as conn:
        yield conn
    for table, known in zip((codecs._CODED, values.WRITERS), before, strict=True):
        table.clear()
        table.update(known)  # type: ignore[arg-type]


class Point:
    def __init__(self, x: object) -> None:
        self.x = x


THERE = """
import rpyc_gateway as gw
class Point:
    def __init__(self, x): self.x = x
def register(): gw.register_codec(Point, lambda point: (point.x,), lambda parts: Point(*parts), name="shapes.Point")
"""


def test_a_codec_that_one_end_lacks_is_named_with_that_end(conn: gw.BlockingSession) -> None:
    conn.execute(THERE)
    gw.register_codec(Point, lambda point: (point.x,), lambda parts: Point(*parts), name="shapes.Point")
    point_of = conn.eval("lambda point: (type(point).__name__, point.x)")
    with pytest.raises(gw.NoCodec, match=r"lab has no codec 'shapes\.Point'"):
        point_of(Point(1))
    assert conn.eval("Point(2)").x == 2  # a reference, as long as nobody there knows better
    conn.namespace["register"]()
    assert point_of(Point(1)) == ("Point", 1)
    came = conn.eval("Point((2,))")
    assert type(came) is Point
    assert came.x == (2,)
    codecs._CODED.pop("shapes.Point")
    with pytest.raises(gw.NoCodec, match="me has no codec"):
        conn.eval("Point(3)")
    assert conn.eval("1") == 1


def test_arrays_of_numpy_cross_without_pickle(conn: gw.BlockingSession) -> None:
    gw.codecs.register_numpy()
    conn.modules["rpyc_gateway.codecs"].register_numpy()
    array = np.random.default_rng(1).random((500, 1000))
    total, same = conn.eval("lambda a: (float(a.sum()), a)")(array)
    assert total == float(array.sum())
    assert np.array_equal(same, array)
    there = gw.deliver(conn, [array])
    assert there[0].shape == (500, 1000)
    assert np.array_equal(gw.obtain(there)[0], array)


def test_plain_data_needs_neither_codec_nor_pickle(conn: gw.BlockingSession) -> None:
    data = {"numbers": [1, 2.5, Fraction(1, 3)], "raw": bytearray(100_000)}
    assert gw.obtain(gw.deliver(conn, data)) == data
    assert pickle.loads(pickle.dumps(conn.eval("[{1}]"))) == [{1}]


def test_pickles_cross_where_both_ends_say_so(url: str, conn: gw.BlockingSession) -> None:
    with pytest.raises(gw.EncodeError, match="which me must allow first"):
        gw.obtain(conn.eval("[slice(1), len, __import__('pathlib').PurePosixPath('a')]"))
    with gw.connect(url, node="lab", name="me", pickle=True) as trusting:
        length, path = gw.obtain(trusting.eval("[len, __import__('pathlib').PurePosixPath('a')]"))
        assert length is len
        assert path.name == "a"
        assert gw.deliver(trusting, path).name == "a"
