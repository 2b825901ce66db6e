"""Routes: loop guard, split horizon, best path, withdrawal; and a whole town of tables that must agree."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.frames import LONGEST_PATH, Route, Routes
from rpyc_gateway.proto.route import RouteTable


def table(*neighbours: str, limit: int = 4096) -> RouteTable:
    made = RouteTable("me", 1, limit)
    for key in neighbours:
        made.neighbour_up(key)
        made.pending(key)
    return made


def tell(made: RouteTable, key: str, *paths: str, cost: int | None = None) -> None:
    """`tell(table, "b", "b c")`: b says that it has c behind it."""
    routes = [Route(tuple(path.split()), len(path.split()) - 1 if cost is None else cost, 1) for path in paths]
    made.receive(key, Routes(tuple(routes)))


def said(made: RouteTable, key: str) -> tuple[list[str], list[str]]:
    """What a neighbour is told: the paths it hears of, and the nodes that are withdrawn."""
    routes = made.pending(key)
    if routes is None:
        return [], []
    return [" ".join(route.path) for route in routes.announce], list(routes.withdraw)


def test_a_node_announces_itself_at_once() -> None:
    made = RouteTable("me", 7)
    made.neighbour_up("b")
    assert made.pending("b") == Routes((Route(("me",), 0, 7),))
    assert made.pending("b") is None
    assert made.pending("nobody") is None


def test_a_client_announces_nothing() -> None:
    made = RouteTable("me", 7, announce=False)
    made.neighbour_up("b")
    tell(made, "b", "b")
    assert made.pending("b") is None
    assert made.next_hop("b") == "b"


def test_a_neighbour_that_wants_no_routes_hears_none() -> None:
    made = RouteTable("me", 7)
    made.neighbour_up("b", wants_routes=False)
    assert made.pending("b") is None


def test_only_those_are_named_for_whom_something_may_have_changed() -> None:
    made = table("b", "c")
    assert made.to_tell == ()
    for number in range(100):
        made.neighbour_up(f"client{number}", wants_routes=False)
    assert made.to_tell == ()
    tell(made, "b", "b")
    assert made.to_tell == ("b", "c")
    assert said(made, "c") == (["me b"], [])
    assert made.to_tell == ("b",)
    made.neighbour_down("b")
    assert made.to_tell == ("c",)


def test_what_one_neighbour_says_is_passed_on_to_the_others() -> None:
    made = table("b", "c")
    tell(made, "b", "b", "b x")
    assert made.next_hop("x") == "b"
    assert made.best() == {"b": Route(("b",), 1, 1), "x": Route(("b", "x"), 2, 1)}
    assert made.pending("c") == Routes((Route(("me", "b"), 1, 1), Route(("me", "b", "x"), 2, 1)))


def test_a_path_is_never_told_to_a_neighbour_that_is_on_it() -> None:
    made = table("b", "c")
    tell(made, "b", "b", "b c", "b c d")
    assert said(made, "b") == ([], [])
    assert said(made, "c") == (["me b"], [])


def test_a_path_that_meets_itself_or_me_is_ignored_and_takes_back_the_one_before() -> None:
    for loop in ("b me x", "b y b x", "b no/name x", " ".join(["b", *(f"n{n}" for n in range(LONGEST_PATH - 1)), "x"])):
        made = table("b")
        tell(made, "b", "b x")
        assert made.next_hop("x") == "b"
        tell(made, "b", loop)
        assert made.next_hop("x") is None


def test_a_path_of_sixteen_is_used_but_not_told() -> None:
    made = table("b", "c")
    tell(made, "b", " ".join(["b", *(f"n{n}" for n in range(LONGEST_PATH - 2)), "x"]))
    assert made.next_hop("x") == "b"
    assert said(made, "c") == ([], [])


def test_the_cheapest_is_used_then_the_shortest_then_the_first_by_name() -> None:
    made = table("d", "c", "b")
    tell(made, "d", "d x")
    assert made.next_hop("x") == "d"
    tell(made, "c", "c x")
    assert made.next_hop("x") == "c"
    tell(made, "b", "b e x", cost=1)
    assert made.next_hop("x") == "c"
    tell(made, "b", "b e x", cost=0)
    assert made.next_hop("x") == "b"


def test_the_cost_of_a_link_counts() -> None:
    made = RouteTable("me", 1)
    made.neighbour_up("slow", cost=10)
    made.neighbour_up("fast")
    tell(made, "slow", "slow x")
    tell(made, "fast", "fast a b x")
    assert made.next_hop("x") == "fast"


def test_what_costs_more_than_can_be_said_is_no_way() -> None:
    made = table("b", "c")
    tell(made, "b", "b x", cost=(1 << 64) - 1)
    assert made.next_hop("x") is None


def test_a_lost_neighbour_is_replaced_by_the_next_best_or_withdrawn() -> None:
    made = table("b", "c", "d")
    tell(made, "b", "b", "b x", "b only")
    tell(made, "c", "c", "c b x")
    for key in "bcd":
        made.pending(key)
    made.neighbour_down("b")
    made.neighbour_down("b")
    assert made.next_hop("x") == "c"
    assert made.next_hop("only") is None
    assert said(made, "d") == (["me c b x"], ["b", "only"])
    assert said(made, "c") == ([], ["b", "only", "x"])


def test_what_goes_and_comes_back_before_it_is_told_is_not_told() -> None:
    made = table("b", "c")
    tell(made, "b", "b x")
    made.pending("c")
    made.receive("b", Routes(withdraw=("x", "never heard of")))
    tell(made, "b", "b x")
    assert made.pending("c") is None


def test_a_new_life_of_a_node_is_told() -> None:
    made = table("b", "c")
    made.receive("b", Routes((Route(("b",), 0, 1),)))
    made.pending("c")
    made.receive("b", Routes((Route(("b",), 0, 2),)))
    assert made.pending("c") == Routes((Route(("me", "b"), 1, 2),))


def test_a_neighbour_that_comes_back_is_told_everything_again() -> None:
    made = table("b", "c")
    tell(made, "b", "b x")
    made.pending("c")
    made.neighbour_up("c")
    assert said(made, "c") == (["me", "me b x"], [])


def test_a_path_begins_with_its_sender() -> None:
    made = table("b")
    with pytest.raises(ProtocolError, match="does not begin with it"):
        tell(made, "b", "b", "c x")
    with pytest.raises(ProtocolError):
        made.receive("b", Routes((Route((), 0, 1),)))
    assert made.next_hop("b") == "b"  # what came before it holds until the link is gone


def test_a_neighbour_announces_only_so_many_nodes() -> None:
    made = table("b", limit=2)
    tell(made, "b", "b", "b x")
    tell(made, "b", "b x")
    with pytest.raises(LimitExceeded, match="more than 2"):
        tell(made, "b", "b y")


def test_what_a_dead_neighbour_said_last_is_ignored() -> None:
    made = table("b")
    made.neighbour_down("b")
    tell(made, "b", "b")
    assert made.best() == {}


# -- a town


class Town:
    """Tables joined by links; every link delivers in order, but nobody knows which link is next."""

    def __init__(self, links: set[tuple[str, str]], chance: random.Random) -> None:
        self.chance = chance
        self.links = links
        self.tables = {name: RouteTable(name, 1) for link in links for name in link}
        self.mail: dict[tuple[str, str], deque[Routes]] = {}
        for one, two in sorted(links):
            self.join(one, two)

    def join(self, one: str, two: str) -> None:
        for here, there in ((one, two), (two, one)):
            self.tables[here].neighbour_up(there)
            self.mail[here, there] = deque()

    def cut(self, one: str, two: str) -> None:
        self.links -= {(one, two), (two, one)}
        for here, there in ((one, two), (two, one)):
            del self.mail[here, there]
            self.tables[here].neighbour_down(there)

    def step(self) -> bool:
        """One table speaks or one message arrives; False if all is quiet."""
        ways = sorted(self.mail)
        self.chance.shuffle(ways)
        for here, there in ways:
            if self.mail[here, there] and self.chance.random() < 0.5:
                self.tables[there].receive(here, self.mail[here, there].popleft())
                return True
            is_named = there in self.tables[here].to_tell
            routes = self.tables[here].pending(there)
            assert routes is None or is_named
            if routes is not None:
                self.mail[here, there].append(routes)
                return True
        return any(self.mail.values())

    def settle(self) -> None:
        for _ in range(20_000):
            if not self.step():
                return
        raise AssertionError("the tables never come to rest")

    def distances(self, start: str) -> dict[str, int]:
        found = {start: 0}
        line = deque([start])
        while line:
            here = line.popleft()
            for link in self.links:
                if here in link:
                    there = link[0] if link[1] == here else link[1]
                    if there not in found:
                        found[there] = found[here] + 1
                        line.append(there)
        return found

    def check(self) -> None:
        """Every table knows exactly who can be reached, by the shortest way, and following it arrives."""
        for name, made in self.tables.items():
            truth = self.distances(name)
            assert {node: route.cost for node, route in made.best().items()} == {
                n: d for n, d in truth.items() if n != name
            }
            for node, route in made.best().items():
                here = name
                walked = []
                while here != node:
                    step = self.tables[here].next_hop(node)
                    assert step is not None
                    walked.append(step)
                    here = step
                    assert len(walked) <= len(self.tables)
                assert tuple(walked) == route.path


names = st.sampled_from("abcdefgh")
towns = st.sets(st.tuples(names, names).filter(lambda link: link[0] < link[1]), min_size=1, max_size=14)


@given(links=towns, seed=st.integers(0, 1 << 32), deaths=st.integers(0, 5))
def test_tables_agree_on_the_shortest_ways_in_whatever_order_they_hear_of_them(
    links: set[tuple[str, str]], seed: int, deaths: int
) -> None:
    chance = random.Random(seed)
    town = Town(links, chance)
    for _ in range(chance.randrange(40)):
        town.step()
    for _ in range(deaths):
        if town.links:
            town.cut(*chance.choice(sorted(town.links)))
            for _ in range(chance.randrange(10)):
                town.step()
    town.settle()
    town.check()


def test_a_ring_that_is_cut_goes_round_the_other_way() -> None:
    ring = "abcdef"
    town = Town({tuple(sorted(pair)) for pair in zip(ring, ring[1:] + ring[0], strict=True)}, random.Random(1))  # type: ignore[misc]
    town.settle()
    town.check()
    assert town.tables["a"].best()["b"].cost == 1
    town.cut("a", "b")
    town.settle()
    town.check()
    assert town.tables["a"].best()["b"].path == ("f", "e", "d", "c", "b")
    town.cut("d", "e")
    town.settle()
    town.check()
    assert town.tables["a"].next_hop("b") is None
