"""The paired bootstrap: how far F2 and average precision move when other customers and merchants are drawn.

Fraud comes in clusters: one compromised terminal or stolen card gives dozens of frauds that a model finds or
misses together, so rows aren't independent and a bootstrap of rows is too sure of itself. Rows belong to a
customer and to a merchant, and the two cross each other. So each draw gives every customer and every merchant
a weight of its own, Poisson with mean 1, and a row weighs the product of its two: the product reweighting of
Owen and Eckles, Bootstrapping data arrays of arbitrary order, Annals of Applied Statistics 6, 2012, which
generalises Owen's pigeonhole bootstrap (ibid. 1, 2007). No exact bootstrap exists for crossed blocks
(McCullagh, Bernoulli 6, 2000); this one errs towards intervals that are too wide: right where customers or
merchants carry the variance, up to the root of 3 too wide where every row stood for itself. A gate that keeps
bad models out may err on that side.

Every model gets the same weights in a draw, so that what is hard for all of them cancels in the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from fraud.evaluation import BETA

_F = TypeVar("_F")

CHUNK = 8_000_000  # weights held at a time: bounds the memory whatever the number of customers

Array = npt.NDArray[np.float64]


def _compiled(function: _F) -> _F:
    """Compile with numba, cached on disk, without the GIL."""
    jit: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
    compiled: _F = jit(function)
    return compiled


@dataclass(frozen=True)
class Blocks:
    """The judged rows, the same for every model: each array is (n,).

    Attributes:
        frauds: bool, the truth.
        cards, merchants: int64 from 0 on, the customer and the merchant of each row.
    """

    frauds: npt.NDArray[np.bool_]
    cards: npt.NDArray[np.int64]
    merchants: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """What one model says of the judged rows: `scores` (n,), flagged at or above its own `threshold`."""

    scores: Array
    threshold: float


class Draws(NamedTuple):
    """What each model reached in each draw: (models, draws); NaN where a draw has no fraud.

    `chance` (draws,) is the average precision of a random order: the share of frauds.
    """

    f2: Array
    average_precision: Array
    chance: Array


def measure(blocks: Blocks, models: Sequence[Answers]) -> Draws:
    """Return what each model reached on the rows as they are: one draw in which everything weighs 1."""
    once = (np.ones((1, _count(codes)), np.uint8) for codes in (blocks.cards, blocks.merchants))
    return _weighed([_ranked(blocks, model) for model in models], *once)


def resample(blocks: Blocks, models: Sequence[Answers], *, draws: int, seed: int) -> Draws:
    """Return what each model reached in each of `draws` draws; the same seed gives the same draws."""
    rng = np.random.default_rng(seed)
    ranked = [_ranked(blocks, model) for model in models]
    cards, merchants = _count(blocks.cards), _count(blocks.merchants)
    step = max(1, CHUNK // (cards + merchants))
    parts = []
    for begin in range(0, draws, step):
        count = min(step, draws - begin)
        weights = rng.poisson(1.0, (count, cards + merchants)).astype(np.uint8)
        parts.append(_weighed(ranked, weights[:, :cards], weights[:, cards:]))
    return Draws(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))


class _Ranked(NamedTuple):
    """A model's rows by falling score."""

    frauds: npt.NDArray[np.bool_]
    cards: npt.NDArray[np.int64]
    merchants: npt.NDArray[np.int64]
    last: npt.NDArray[np.bool_]  # the last row of those with its score: rows of equal score are never parted
    flagged: int  # so many stand at or above the threshold


def _ranked(blocks: Blocks, model: Answers) -> _Ranked:
    order = np.argsort(-model.scores, kind="stable")
    scores = model.scores[order]
    last = np.append(scores[1:] != scores[:-1], True)
    flagged = int((scores >= model.threshold).sum())
    return _Ranked(blocks.frauds[order], blocks.cards[order], blocks.merchants[order], last, flagged)


def _weighed(ranked: Sequence[_Ranked], cards: Any, merchants: Any) -> Draws:
    figures = np.empty((len(ranked), len(cards), 3))
    for model, out in zip(ranked, figures, strict=True):
        _reach(*model, cards, merchants, BETA**2, out)  # type: ignore[no-untyped-call]
    return Draws(figures[:, :, 0], figures[:, :, 1], figures[0, :, 2])


def _count(codes: npt.NDArray[np.int64]) -> int:
    return int(codes.max(initial=-1)) + 1


@_compiled
def _reach(frauds, cards, merchants, last, flagged, card_weights, merchant_weights, beta2, out):  # type: ignore[no-untyped-def]
    """Write F-beta, average precision and the share of frauds of each draw: one pass over the ranked rows."""
    for draw in range(len(card_weights)):
        of_card, of_merchant = card_weights[draw], merchant_weights[draw]
        # Weights of frauds and of rows so far, of frauds up to the score before, and at the threshold.
        hits = seen = before = found = raised = np.int64(0)
        area = 0.0
        for i in range(len(frauds)):
            weight = np.int64(of_card[cards[i]]) * np.int64(of_merchant[merchants[i]])
            seen += weight
            if frauds[i]:
                hits += weight
            if last[i] and hits > before:
                area += (hits - before) * (hits / seen)
                before = hits
            if i + 1 == flagged:
                found, raised = hits, seen
        if hits == 0:
            out[draw] = np.nan
        else:
            out[draw, 0] = (1.0 + beta2) * found / (beta2 * hits + raised)
            out[draw, 1] = area / hits
            out[draw, 2] = hits / seen
