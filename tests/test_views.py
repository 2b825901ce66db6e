"""What is handed out as a view shows what is named, and nothing else of its object."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import rpyc_gateway as gw
from rpyc_gateway.serving import Offer
from tests.blocking_house import House, open_blocking_lab


class Account:
    """Has more than others should see."""

    def __init__(self) -> None:
        self.owner, self.balance, self.secret, self._hidden = "ada", 5, "s3cret", 1

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    def close(self) -> None: ...


class Bank(gw.Service):
    """Hands out views."""

    def __init__(self) -> None:
        self.account = Account()

    @gw.expose
    def open(self) -> Any:
        return gw.restricted(self.account, {"owner", "balance", "deposit"}, {"owner"})

    @gw.expose
    def back(self, view: Any) -> bool:
        return view is not None and view.balance == self.account.balance


def view(wattrs: Any = ("owner",)) -> Any:
    return gw.restricted(Account(), {"owner", "balance", "deposit"}, wattrs)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_blocking_lab(3, {"bank": Offer(Bank, ("*",))}) as house:
        yield house


def use(account: Any) -> None:
    """The same in this process and from afar."""
    assert account.deposit(2) == 7
    assert (account.owner, account.balance) == ("ada", 7)
    account.owner = "eve"
    assert account.owner == "eve"
    for name in ("secret", "close", "_hidden", "__dict__", "__gw_object__", "nothing"):
        with pytest.raises(AttributeError):
            getattr(account, name)
    for name in ("balance", "secret", "new", "__class__"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(account, name, 1)
    for name in ("owner", "secret"):
        with pytest.raises(AttributeError, match=r"cannot be deleted|is not exposed"):
            delattr(account, name)
    with pytest.raises(TypeError):
        len(account)
    assert repr(account) == "<restricted view of a Account object: balance, deposit, owner>"


def test_a_view_here() -> None:
    account = gw.restricted(Account(), {"owner", "balance", "deposit"}, {"owner"})
    with pytest.raises(gw.NotExposed, match="'secret' of 'Account' objects is not exposed in this view"):
        account.secret  # noqa: B018
    assert dir(account) == ["balance", "deposit", "owner"]
    assert account.deposit(2) == 7
    account.owner = "eve"
    assert account.owner == "eve"
    for wrong in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="not copied or pickled"):
            wrong(account)


def test_a_view_from_afar(house: House) -> None:
    with house.connect(service="bank") as conn:
        account = conn.root.open()
        use(account)
        assert conn.root.back(account)
        for wrong in (copy.copy, copy.deepcopy, gw.obtain):
            with pytest.raises((TypeError, gw.EncodeError, gw.NotExposed)):
                wrong(account)
        with pytest.raises(AttributeError):
            account.deposit.__self__  # noqa: B018


def test_what_can_be_set_is_what_can_be_read_unless_it_is_said() -> None:
    account = view(None)
    account.balance = 9
    assert account.balance == 9
    nothing = view(())
    with pytest.raises(gw.NotExposed, match="cannot be set"):
        nothing.owner = "eve"


def test_names_are_a_set_of_ordinary_ones() -> None:
    with pytest.raises(TypeError, match="a view has a set of names, not the text 'owner'"):
        gw.restricted(Account(), "owner")
    with pytest.raises(TypeError, match=r"a view has a set of names, such as {'read', 'close'}, and not 5"):
        gw.restricted(Account(), {"owner"}, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="special methods belong to classes, and a view has none: __len__"):
        gw.restricted([], {"append", "__len__"})


def test_a_view_of_what_is_held_from_afar(house: House) -> None:
    with house.connect() as conn:
        items = gw.restricted(conn.eval("[1]"), {"append"})
        items.append(2)
        with pytest.raises(gw.NotExposed):
            items.clear()
