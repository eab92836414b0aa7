"""The bootstrap: exact on the rows as they are, paired, and honest about blocks."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, fbeta_score

from fraud.gate.bootstrap import Answers, Blocks, measure, resample

ROWS = 3_000


def blocks(seed: int, rows: int = ROWS, cards: int = 300, merchants: int = 80) -> Blocks:
    """Rows whose frauds come from a few cards and merchants, as real ones do."""
    rng = np.random.default_rng(seed)
    of_card, of_merchant = rng.integers(0, cards, rows), rng.integers(0, merchants, rows)
    risk = 0.01 + 0.6 * (rng.random(cards) < 0.03)[of_card] + 0.6 * (rng.random(merchants) < 0.03)[of_merchant]
    frauds = rng.random(rows) < risk
    return Blocks(frauds, np.unique(of_card, return_inverse=True)[1], np.unique(of_merchant, return_inverse=True)[1])


def answers(of: Blocks, seed: int, skill: float = 1.5, decimals: int = 3) -> Answers:
    """What a model says that finds each card's and each merchant's frauds more or less easily."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, len(of.frauds)) + rng.normal(0, 1, of.cards.max() + 1)[of.cards]
    return Answers(np.round(noise + skill * of.frauds, decimals), 1.2)


def test_the_rows_as_they_are_give_sklearns_figures() -> None:
    """Equal scores among them; and a threshold above and below every score."""
    rows = blocks(1)
    for model in (
        answers(rows, 1),
        answers(rows, 2, decimals=0),
        Answers(np.zeros(ROWS), 0.5),
        Answers(np.ones(ROWS), 0),
    ):
        found = measure(rows, [model])
        flagged = model.scores >= model.threshold
        assert found.average_precision[0, 0] == pytest.approx(average_precision_score(rows.frauds, model.scores))
        assert found.f2[0, 0] == pytest.approx(fbeta_score(rows.frauds, flagged, beta=2))
        assert found.chance[0] == pytest.approx(rows.frauds.mean())


def test_a_draw_weighs_a_row_by_its_customer_and_its_merchant() -> None:
    rows, draws, seed = blocks(2), 50, 7
    model = answers(rows, 3)
    found = resample(rows, [model], draws=draws, seed=seed)
    cards = int(rows.cards.max()) + 1
    weights = np.random.default_rng(seed).poisson(1.0, (draws, cards + int(rows.merchants.max()) + 1))
    for draw in range(draws):
        weight = weights[draw, :cards][rows.cards] * weights[draw, cards:][rows.merchants]
        of = {"sample_weight": weight}
        assert found.average_precision[0, draw] == pytest.approx(
            average_precision_score(rows.frauds, model.scores, **of)
        )
        flagged = model.scores >= model.threshold
        assert found.f2[0, draw] == pytest.approx(fbeta_score(rows.frauds, flagged, beta=2, **of))


def test_a_seed_gives_the_same_draws_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = blocks(3)
    models = [answers(rows, 1), answers(rows, 2)]
    whole = resample(rows, models, draws=40, seed=5)
    monkeypatch.setattr("fraud.gate.bootstrap.CHUNK", 1)
    for one, other in zip(whole, resample(rows, models, draws=40, seed=5), strict=True):
        assert one.tobytes() == other.tobytes()
    assert whole.f2.tobytes() != resample(rows, models, draws=40, seed=6).f2.tobytes()


def test_equal_models_never_differ_and_pairing_narrows() -> None:
    rows = blocks(4)
    one = answers(rows, 1)
    near = Answers(one.scores + np.random.default_rng(9).normal(0, 0.02, ROWS), one.threshold)
    drawn = resample(rows, [one, one, near], draws=200, seed=1).average_precision
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] - drawn[2]).std() < 0.2 * drawn[0].std()


def test_a_draw_without_a_fraud_is_none() -> None:
    frauds = np.zeros(100, bool)
    frauds[:5] = True  # all of one card
    rows = Blocks(frauds, np.arange(100) // 5, np.arange(100) % 7)
    drawn = resample(rows, [Answers(np.arange(100.0), 50.0)], draws=400, seed=0)
    empty = np.isnan(drawn.chance)
    assert 0.25 < empty.mean() < 0.5  # the card alone is left out of a draw with probability 1/e
    assert (np.isnan(drawn.f2[0]) == empty).all()
    assert (np.isnan(drawn.average_precision[0]) == empty).all()


WORLDS = 150


def intervals(by: str) -> tuple[float, float]:
    """Compare two equally good models in many worlds; return how often the interval holds 0, and lies above it.

    Args:
        by: `blocks`, or `rows`: every row for itself, as a naive bootstrap has it.
    """
    held = above = 0
    for world in range(WORLDS):
        rows = blocks(1_000 + world, rows=2_000, cards=200, merchants=60)
        models = [answers(rows, 2 * world), answers(rows, 2 * world + 1)]
        if by == "rows":
            rows = Blocks(rows.frauds, np.arange(len(rows.frauds)), np.zeros(len(rows.frauds), np.int64))
        drawn = resample(rows, models, draws=300, seed=world).average_precision
        low, high = np.nanquantile(drawn[0] - drawn[1], [0.025, 0.975])
        held += bool(low <= 0 <= high)
        above += bool(low > 0)
    return held / WORLDS, above / WORLDS


def test_intervals_of_blocks_cover_where_those_of_rows_do_not() -> None:
    """Models that find a customer's frauds together, in worlds of 200 customers: measured .99 and .00, .81 and .06."""
    held, above = intervals("blocks")
    assert held >= 0.95
    assert above <= 0.025
    held, above = intervals("rows")
    assert held < 0.9
    assert above > 0.025
