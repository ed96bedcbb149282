"""What `make bench` calls a difference."""

import os
import sys
from math import inf
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))
import cores  # noqa: E402
from names import ALONE, CONTROL  # noqa: E402
from paired import Spread, difference, ranks, ratio  # noqa: E402
from tables import HIDDEN, TENTH, Part, say_below  # noqa: E402

ROUNDS = 9
DRIFT = [100, 140, 90, 200, 120, 80, 150, 110, 130]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, None), (5, None), (6, (0, 5)), (8, (0, 7)), (9, (1, 7)), (12, (2, 9)), (20, (5, 14))]
)
def test_the_ranks_are_those_of_the_sign_test(count, expected):
    assert ranks(count) == expected


def test_what_all_ways_share_in_a_round_cancels_out():
    spread = difference([value + 20 for value in DRIFT], DRIFT)
    assert (spread.median, spread.lower_quartile, spread.upper_quartile) == (20, 20, 20)
    assert spread.is_told_from(noise=0)


def test_a_median_is_not_moved_by_one_bad_round():
    spread = difference([1000, *([20] * 8)], [0] * ROUNDS)
    assert spread.median == 20
    assert (spread.low, spread.high) == (20, 20)


def test_rounds_that_disagree_tell_no_difference():
    spread = difference([3, -2, 4, -1, 5, 2, -3, 1, 2], [0] * ROUNDS)
    assert spread.median == 2
    assert not spread.is_told_from(noise=0)


def test_less_than_what_the_same_differs_from_itself_is_no_difference():
    spread = Spread.of([4, 5, 6] * 3)
    assert spread.is_told_from(noise=4)
    assert not spread.is_told_from(noise=5)


def test_a_saving_is_a_difference_as_well():
    assert Spread.of([-4, -5, -6] * 3).is_told_from(noise=4)


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_few_rounds_tell_nothing(rounds):
    spread = Spread.of([20] * rounds)
    assert (spread.median, spread.reach) == (20, inf)
    assert not spread.is_told_from(noise=0)
    assert spread.as_json()["low"] is None


def test_a_ratio_is_taken_within_each_round():
    values = [base + 30 for base in DRIFT]
    others = [base + 20 for base in DRIFT]
    assert ratio(values, others, DRIFT) == (1.5, 1.5, 1.5)


def test_a_round_in_which_the_other_adds_nothing_does_not_spoil_a_ratio():
    others = [base + 20 for base in DRIFT]
    others[0] = DRIFT[0] - 5
    median, low, high = ratio([base + 30 for base in DRIFT], others, DRIFT)
    assert median == 1.5
    assert low <= 1.5 <= high


def test_the_ratio_to_nothing_has_no_end():
    assert ratio([3] * ROUNDS, [1] * ROUNDS, [1] * ROUNDS) == (inf, inf, inf)


def test_rounds_must_be_the_same():
    with pytest.raises(ValueError, match="shorter"):
        difference([1, 2], [1])


def part(**added):
    """What a way with each of these names adds to Envoy alone, which differs from itself by up to 4."""
    again = [base + number % 5 for number, base in enumerate(DRIFT)]
    ways = {ALONE: DRIFT, CONTROL: again, **{name: [base + more for base in DRIFT] for name, more in added.items()}}
    return Part(
        {"name": name, "alone": ALONE, "empty": "empty", "line": "", "x": 0, "values": {"cpu": values}}
        for name, values in ways.items()
    )


def test_a_table_names_only_differences_that_the_noise_does_not_hide():
    found = part(empty=20, costly=30, cheap=3)
    assert found.say_added("costly", "cpu", ".1f") == "+30.0 (+30.0 to +30.0)"
    assert found.say_times_empty("costly", "cpu") == "1.50 (1.50 to 1.50)"
    assert found.say_added("cheap", "cpu", ".1f") == HIDDEN
    assert found.say_times_empty("cheap", "cpu") == HIDDEN


def test_a_table_compares_nothing_with_an_empty_filter_that_the_noise_hides():
    assert part(empty=2, costly=30).say_times_empty("costly", "cpu") == HIDDEN


def test_a_table_compares_with_whatever_else_was_measured():
    found = part(costly=30, service=400)
    assert found.say_times("costly", "service", "cpu") == "0.07 (0.07 to 0.07)"
    assert found.say_times("service", "costly", "cpu") == "13.33 (13.33 to 13.33)"
    assert found.say_times("costly", None, "cpu") == ""


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((0.08, 0.07, 0.09), "yes"),
        ((0.08, 0.07, 0.1), "not told"),
        ((0.12, 0.09, 0.2), "not told"),
        ((0.12, 0.1, 0.2), "no"),
        (None, HIDDEN),
    ],
)
def test_a_ratio_is_below_a_bound_only_with_all_of_its_interval(found, expected):
    assert say_below(found, TENTH) == expected


def test_no_side_of_a_bound_is_named_where_the_noise_hides_what_is_added():
    assert say_below(part(cheap=3, service=400).times("cheap", "service", "cpu"), TENTH) == HIDDEN


def test_what_is_measured_is_kept_apart_from_the_load():
    assert cores.MEASURED.isdisjoint(cores.OTHERS) or len(cores.ALL) == 1


def test_cores_are_given_back():
    before = os.sched_getaffinity(0)
    with cores.on(cores.MEASURED):
        assert os.sched_getaffinity(0) == cores.MEASURED
    assert os.sched_getaffinity(0) == before
