"""Real models on simulated payments: which of them the gate lets into Production."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fraud.errors import ModelError
from fraud.gate import Evidence, Rules, Verdict, decide, gather
from fraud.model import Bundle
from fraud.training import LabelledRows
from tests.gate.worlds import DAY_MS, aged, known_on, model

RULES = Rules()
TRIES = range(1, 11)
OLD = RULES.champion_age_days + 1


def compare(
    challenger: Bundle, champion: Any, reference: Any = None, *, rows: LabelledRows | None = None, seed: int = 0
) -> tuple[Verdict, Evidence]:
    found = gather(known_on(60) if rows is None else rows, challenger, champion, reference, RULES, seed=seed)
    return decide(found, RULES, first=champion is None), found


@pytest.mark.parametrize("tried", TRIES)
def test_thirty_trees_instead_of_a_hundred_are_never_promoted(tried: int) -> None:
    for age in (0.0, OLD):
        assert compare(model(60, tried, trees=30), aged(model(60, 0), age), seed=tried)[0].outcome == "keep"


@pytest.mark.parametrize("tried", TRIES)
def test_shuffled_labels_are_never_promoted(tried: int) -> None:
    """Nor as the first model: it isn't better than chance."""
    challenger = model(60, tried, trees=30, shuffled=True)
    for champion in (aged(model(60, 0), OLD), None):
        assert compare(challenger, champion, seed=tried)[0].outcome == "keep"


@pytest.mark.parametrize("tried", TRIES)
def test_an_equal_one_waits_for_the_champions_age_limit(tried: int) -> None:
    verdict, found = compare(model(60, tried), model(60, 0), seed=tried)
    assert verdict.outcome == "keep"
    assert any("one as good may follow after 30" in reason for reason in verdict.reasons)
    assert found.champion is not None
    assert found.champion.average_precision.low < 0 < found.champion.average_precision.high


def test_one_that_knows_a_new_pattern_is_promoted_for_being_better() -> None:
    verdict, found = compare(model(60, 0), model(30, 0))
    assert (verdict.outcome, verdict.kind) == ("promote", "better")
    assert found.champion_age_days == pytest.approx(30)
    assert found.days >= 7
    assert found.frauds >= 100
    challenger, champion = found.figures["challenger"], found.figures["champion"]
    assert found.champion is not None
    assert found.champion.f2.value == pytest.approx(challenger["f2"] - champion["f2"])


def test_the_figures_are_those_of_the_training_report() -> None:
    """The same rows are judged: the challenger's judge part."""
    _, found = compare(model(60, 0), None)
    values = model(60, 0).metrics["values"]
    assert found.figures["challenger"] == pytest.approx({n: values[n] for n in ("f2", "average_precision")})
    assert (found.rows, found.frauds) == (model(60, 0).metrics["rows"], model(60, 0).metrics["frauds"])


def test_the_same_seed_gives_the_same_evidence() -> None:
    one, again = (compare(model(60, 1), model(60, 0), model(30, 0), seed=5) for _ in range(2))
    assert one == again
    assert compare(model(60, 1), model(60, 0), model(30, 0), seed=6)[1] != one[1]


def test_an_old_champion_gives_way_to_its_equal() -> None:
    champion = aged(model(60, 0), OLD)
    verdict, _ = compare(model(60, 0), champion)
    assert (verdict.outcome, verdict.kind) == ("promote", "as_good")
    assert compare(model(60, 0), aged(champion, -2))[0].outcome == "keep"


@pytest.mark.parametrize(
    ("lost", "said"),
    [("days", "6 whole days can be judged, 7 are needed"), ("frauds", "frauds can be judged, 100 are needed")],
)
def test_few_days_or_few_frauds_decide_nothing(lost: str, said: str) -> None:
    rows = known_on(60)
    end = rows.as_of - rows.maturity
    if lost == "days":
        keep = rows.times < end - 2 * DAY_MS  # the archive stood still
    else:
        keep = ~rows.frauds | (np.cumsum(rows.frauds[::-1])[::-1] <= 60)
    verdict, found = compare(model(60, 1), model(30, 0), rows=_only(rows, keep))
    assert verdict.outcome == "undecided"
    assert any(said in reason for reason in verdict.reasons), (verdict.reasons, found)


def test_a_champion_that_was_trained_on_judged_rows_decides_nothing() -> None:
    """A champion of day 60 knows rows that a challenger of day 50 is judged on."""
    verdict, _ = compare(model(50, 0), model(60, 0))
    assert verdict.outcome == "undecided"
    assert any("it was trained on" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("champion", ["version 3 can't be scored: it reads other features", "no window"])
def test_a_champion_that_cannot_be_compared_decides_nothing(champion: str) -> None:
    given: Any = replace(model(30, 0), window={}) if champion == "no window" else champion
    verdict, found = compare(model(60, 0), given)
    assert verdict.outcome == "undecided"
    assert found.champion_age_days is None


def test_a_challenger_without_a_window_or_with_older_rows_is_refused() -> None:
    with pytest.raises(ModelError, match="doesn't say what it was trained on"):
        compare(replace(model(60, 0), window={}), None)
    with pytest.raises(ModelError, match="rows of its own moment, or of a later one"):
        compare(model(60, 0), None, rows=known_on(50))


def test_later_rows_judge_too() -> None:
    """What couldn't be decided is judged again when more is known."""
    _, early = compare(model(50, 0), model(30, 0), rows=known_on(50))
    _, later = compare(model(50, 0), model(30, 0), rows=known_on(60))
    assert later.begin == early.begin
    assert later.days == early.days + 10
    assert later.frauds > early.frauds


def _only(rows: LabelledRows, keep: Any) -> LabelledRows:
    columns = ("matrix", "times", "frauds", "cards", "merchants")
    return replace(rows, **{name: getattr(rows, name)[keep] for name in columns})
