"""Steps that are each as good as the one before don't add up to a loss: the last better model is the measure."""

import numpy as np

from fraud.gate import Evidence, Rules, decide
from fraud.gate.bootstrap import Answers, Blocks
from fraud.gate.evidence import compare

RULES = Rules(draws=300)
ROWS = 40_000
STEPS = 12
LOST = 0.0015  # of the frauds, forgotten by each step


def world() -> tuple[Blocks, list[Answers]]:
    """Return rows of 4,000 frauds, and models of which each has forgotten a few frauds more than the one before."""
    rng = np.random.default_rng(1)
    frauds = rng.random(ROWS) < 0.1
    scores = rng.normal(0.0, 1.0, ROWS) + 3.0 * frauds
    forgotten = np.where(frauds, rng.random(ROWS), 1.0)
    models = [Answers(np.where(forgotten < step * LOST, -5.0, scores), 1.5) for step in range(STEPS + 1)]
    return Blocks(frauds, rng.permutation(ROWS) // 3, rng.permutation(ROWS) // 20), models


def walk(*, with_reference: bool) -> tuple[list[int], list[float]]:
    """Offer every model in turn to a gate whose champion is always old; return who was promoted, and each one's AP."""
    blocks, models = world()
    promoted = [0]
    figures = [0.0] * len(models)
    for step in range(1, len(models)):
        answers = {"challenger": models[step], "champion": models[promoted[-1]]}
        if with_reference and promoted[-1] != 0:
            answers["reference"] = models[0]  # the only one that was ever better
        compared = compare(blocks, answers, RULES, seed=step)
        found = Evidence(
            rows=ROWS, frauds=int(blocks.frauds.sum()), customers=ROWS // 3, merchants=ROWS // 20, begin=0, end=0,
            days=7, champion_age_days=31.0, **compared,
        )  # fmt: skip
        figures[step] = compared["figures"]["challenger"]["average_precision"]
        figures[0] = figures[0] or compared["figures"]["champion"]["average_precision"]
        verdict = decide(found, RULES, first=False)
        if verdict.outcome == "promote":
            assert verdict.kind == "as_good"
            promoted.append(step)
    return promoted, figures


def test_equal_steps_cannot_lead_downwards() -> None:
    promoted, figures = walk(with_reference=True)
    assert 1 < len(promoted) < STEPS, "some steps are as good, and the rest are refused"
    assert figures[0] - figures[promoted[-1]] <= RULES.ap_loss


def test_without_the_reference_they_would() -> None:
    promoted, figures = walk(with_reference=False)
    assert figures[0] - figures[promoted[-1]] > 2 * RULES.ap_loss
