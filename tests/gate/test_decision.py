"""The verdict, rule by rule."""

from dataclasses import replace
from typing import Any

import pytest

from fraud.gate import Comparison, Evidence, Interval, Rules, decide, missed_floors

RULES = Rules()
BETTER = Comparison(Interval(0.02, -0.009, 0.05), Interval(0.03, 0.001, 0.06))
EQUAL = Comparison(Interval(0.0, -0.009, 0.009), Interval(0.0, -0.004, 0.004))
WORSE = Comparison(Interval(-0.03, -0.06, 0.0), Interval(-0.03, -0.05, -0.01))
EVIDENCE = Evidence(
    rows=28_000, frauds=170, customers=1_800, merchants=400, begin=0, end=7 * 86_400_000, days=7,
    above_chance=Interval(0.5, 0.4, 0.6), champion=BETTER, champion_age_days=5.0,
)  # fmt: skip

CASES: dict[str, tuple[dict[str, Any], str, str | None, str]] = {
    # name: (changed evidence, outcome, kind, word of a reason)
    "surely better": ({}, "promote", "better", "surely rises"),
    "better, but F2 may fall too much": (
        {"champion": replace(BETTER, f2=Interval(0.0, -0.011, 0.01))}, "keep", None, "F2 may fall by more than 0.01",
    ),
    "F2 at the edge": ({"champion": replace(BETTER, f2=Interval(0.0, -0.01, 0.0))}, "promote", "better", "rises"),
    "nothing gained, to the digit": (
        {"champion": replace(BETTER, average_precision=Interval(0.01, 0.0, 0.02))}, "keep", None, "doesn't surely rise",
    ),
    "equal, the champion is young": ({"champion": EQUAL}, "keep", None, "5.0 days old; one as good may follow"),
    "equal, the champion is of the limit's age": (
        {"champion": EQUAL, "champion_age_days": 30.0}, "keep", None, "30.0 days old",
    ),
    "equal, the champion is old": ({"champion": EQUAL, "champion_age_days": 30.1}, "promote", "as_good", "as good"),
    "equal to both": (
        {"champion": EQUAL, "champion_age_days": 31.0, "reference": EQUAL}, "promote", "as_good", "as good",
    ),
    "equal to the champion, worse than the reference": (
        {"champion": EQUAL, "champion_age_days": 31.0, "reference": WORSE}, "keep", None, "last model promoted for",
    ),
    "the reference can't be scored": (
        {"champion": EQUAL, "champion_age_days": 31.0, "no_reference": "it is gone"}, "keep", None, "it is gone",
    ),
    "better than the champion, worse than the reference": ({"reference": WORSE}, "promote", "better", "rises"),
    "worse": ({"champion": WORSE}, "keep", None, "average precision may fall by more than 0.005"),
    "six days": ({"days": 6}, "undecided", None, "6 whole days can be judged, 7 are needed"),
    "99 frauds": ({"frauds": 99}, "undecided", None, "99 frauds can be judged, 100 are needed"),
    "no frauds": (
        {"frauds": 0, "above_chance": None, "champion": None}, "undecided", None, "0 frauds can be judged",
    ),
    "the champion knows them": (
        {"incomparable": "it was trained on 9 of them"}, "undecided", None, "can't be compared: it was trained on 9",
    ),
    "one merchant's frauds": ({"empty_draws": 0.2}, "undecided", None, "too few customers or merchants"),
    "a floor is missed": ({"missed_floors": ("f2",)}, "keep", None, "isn't better than chance in f2"),
    "perhaps no better than chance": (
        {"above_chance": Interval(0.01, -0.01, 0.02)}, "keep", None, "random order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_challenger_is_decided_by_the_rules(case: str) -> None:
    changes, outcome, kind, word = CASES[case]
    verdict = decide(replace(EVIDENCE, **changes), RULES, first=False)
    assert (verdict.outcome, verdict.kind) == (outcome, kind)
    assert word in "; ".join(verdict.reasons)


def test_the_first_model_has_to_be_better_than_chance() -> None:
    alone = replace(EVIDENCE, champion=None, champion_age_days=None, days=3, frauds=20)
    verdict = decide(alone, RULES, first=True)
    assert (verdict.outcome, verdict.kind) == ("promote", "first")
    for change in ({"missed_floors": ("brier",)}, {"above_chance": Interval(0.01, 0.0, 0.02)}):
        assert decide(replace(alone, **change), RULES, first=True).outcome == "keep"


def test_floors_are_missed_at_chance_and_asked_for_only_where_something_can_be_shown() -> None:
    metrics = {
        "values": {"f2": 0.2, "recall": 0.3, "brier": 0.01, "ece": 0.4, "card_precision_100": 0.1},
        "floors": {"f2": 0.2, "recall": 0.2, "brier": 0.01, "ece": 0.5, "card_precision_100": 0.1},
        "oracles": {"f2": 1.0, "recall": 1.0, "brier": 0.0, "ece": 0.0, "card_precision_100": 0.1},
    }
    assert missed_floors(metrics) == ("f2", "brier")
