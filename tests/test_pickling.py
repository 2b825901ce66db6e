"""Pickles travel only where both ends have said so, and each that has not is named."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.config import Config
from rpyc_gateway.pickling import pickle_for
from rpyc_gateway.proto.messages import SessionInfo
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.proto.values import Ext, Writer
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.serving import Offer
from tests.house import HOPS, open_house


class Note:
    """No plain data; both ends know its module."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]


@HOPS
async def test_where_both_ends_allow_it_anything_that_pickles_is_obtained_and_delivered(hops: int) -> None:
    names = ["hq", *(f"relay{number}" for number in range(1, hops)), "lab"]
    async with open_house(*names, pickle=True) as nodes, nodes[0].session("lab", pickle=True) as lab:

        def story() -> None:
            root = blocking_proxy(lab.held_root)
            notes = gw.deliver(root, [Note("a"), Note("b")])  # the first word of the session, too
            assert notes[0].text == "a"
            copies = gw.obtain(notes)
            assert copies == [Note("a"), Note("b")]
            ring = gw.obtain(root.eval("(lambda items: items.append(items) or items)([])"))
            assert ring[0] is ring
            assert pickle.loads(pickle.dumps(notes[1])) == Note("b")
            with pytest.raises(gw.EncodeError, match="cannot be pickled"):
                gw.obtain(root.eval("[lambda: 1]"))

        await trio.to_thread.run_sync(story)
        assert await gw.obtain(await gw.deliver(lab, Note("c"))) == Note("c")


@pytest.mark.parametrize(("here", "there", "missing"), [(False, True, "hq"), (True, False, "lab")])
async def test_whoever_does_not_allow_it_is_named(here: bool, there: bool, missing: str) -> None:  # noqa: FBT001
    async with open_house("hq", "lab", pickle=there) as nodes, nodes[0].session("lab", pickle=here) as lab:
        await lab.execute("from tests.test_pickling import Note")
        with pytest.raises(gw.EncodeError, match=f"which {missing} must allow first .*pickle=True"):
            await gw.obtain(lab.eval("[Note('a')]"))
        with pytest.raises(gw.EncodeError, match=f"which {missing} must allow first"):
            await gw.deliver(lab, [Note("a")])


async def test_a_pickle_that_comes_unasked_is_refused_unread() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return print, ("it ran",)

    class Forged(Writer):
        def value(self, value: object, depth: int = 0) -> Any:
            return msgspec.msgpack.Ext(Ext.CODEC, msgspec.msgpack.encode(["pickle", pickle.dumps(Bomb())]))

    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lab._references, "writer", lambda: Forged(lambda thing: thing))
            with pytest.raises(gw.Denied, match="lab takes none"):
                await lab.ping((1,))  # no atom: a writer writes it
        assert await lab.ping(5) == 5


def test_the_far_side_is_believed_before_it_has_spoken() -> None:
    rpc = Rpc(SessionInfo(vat=b"v" * 16, name="hq", features=("pickle",)), opener=True, root=None, numbers=iter([1]))
    assert pickle.loads(pickle_for(rpc, [1])) == [1]


def test_it_is_a_key_of_the_configuration() -> None:
    config = Config.parse('[[serve]]\nservice = "classic"\nallow = ["parent"]\npickle = true\n')
    assert config.serve[0].pickle
    with pytest.raises(gw.ConfigError, match="pickle"):
        Config.parse('[[serve]]\nservice = "classic"\nallow = []\npickle = "yes"\n')


@pytest.mark.parametrize("word", ["no", "false", 1, None])
async def test_only_true_allows_pickles_and_only_false_is_no(word: Any) -> None:
    with pytest.raises(TypeError, match="`pickle` is True or False"):
        Offer(dict, pickle=word)
    async with open_house("hq", "lab") as nodes:
        with pytest.raises(TypeError, match="`pickle` is True or False"):
            async with nodes[0].session("lab", pickle=word):
                pytest.fail("nobody said yes")
