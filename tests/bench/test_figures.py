"""What rounds come to: who begins, medians of the ratios of each round, and whether a target is reached."""

from __future__ import annotations

import pytest

from tests.bench.figures import Measurement, Ratio, judge, ratio, rotated, values, work
from tests.bench.workloads import WORKLOADS, Target, chosen

[CALL] = chosen(["call"])


def slots(row: str, *found: float | None) -> list[Measurement]:
    return [Measurement(number, "call", row, value) for number, value in enumerate(found)]


def test_each_row_begins_once_before_one_begins_again() -> None:
    assert [rotated("ABC", turn) for turn in range(4)] == [list("ABC"), list("BCA"), list("CAB"), list("ABC")]
    assert rotated([], 1) == []


def test_a_ratio_is_the_median_of_what_each_round_says() -> None:
    # The machine was slow in the second round, for both; the medians of the values would say 30 / 10.
    ours, base = {0: 30.0, 1: 8.0, 2: 44.0}, {0: 10.0, 1: 2.0, 2: 11.0}
    assert ratio(ours, base) == Ratio(median=4.0, lowest=3.0, highest=4.0, rounds=3)


def test_rounds_that_only_one_of_them_has_do_not_count() -> None:
    assert ratio({0: 6.0, 1: 8.0}, {1: 2.0, 2: 1.0}) == Ratio(4.0, 4.0, 4.0, rounds=1)
    assert ratio({0: 6.0}, {1: 2.0}) is None


def test_slots_that_failed_have_no_value() -> None:
    assert values(slots("ours", 5.0, None), "call", "ours") == {0: 5.0}


def test_work_is_what_all_processes_can_do_in_a_second_of_their_time() -> None:
    slot = Measurement(0, "call", "ours", 1.0, near_us=15.0, far_us=5.0)
    assert work([slot, *slots("ours", 2.0)], "call", "ours") == {0: 50_000.0}


@pytest.mark.parametrize(("least", "reached"), [(2.0, True), (2.1, False)])
def test_a_target_is_reached_by_the_median(least: float, reached: bool) -> None:  # noqa: FBT001
    measurements = [*slots("ours", 30.0, 10.0, 10.0), *slots("rpyc", 10.0, 5.0, 10.0)]
    assert judge(measurements, CALL, Target("ours", "rpyc", least)) == (Ratio(2.0, 1.0, 3.0, 3), reached)


@pytest.mark.parametrize(("most", "reached"), [(300, True), (299, False)])
def test_a_target_without_a_base_is_a_bound(most: float, reached: bool) -> None:  # noqa: FBT001
    assert judge(slots("ours", 300.0), CALL, Target("ours", most=most)) == (Ratio(300.0, 300.0, 300.0, 1), reached)


def test_a_target_that_was_not_measured_is_not_reached() -> None:
    for target in (Target("ours", "rpyc", 2.0), Target("ours", most=300)):
        assert judge([], CALL, target) == (None, False)


def test_workloads_are_chosen_by_their_names_and_beginnings() -> None:
    assert [workload.name for workload in chosen(["relay*", "call"])] == [
        "call",
        "relay1.call",
        "relay3.call",
        "relay3.send64m",
    ]
    assert chosen([]) == WORKLOADS
    with pytest.raises(KeyError, match="nothing"):
        chosen(["call", "nothing"])
