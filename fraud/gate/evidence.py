"""What is known about a challenger: how it compares on the rows that it and the champion can be judged on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fraud.errors import ModelError
from fraud.gate.bootstrap import Answers, Blocks, measure, resample
from fraud.gate.rules import Rules
from fraud.model import Bundle, Scorer
from fraud.times import format_time, parse_time

if TYPE_CHECKING:
    from fraud.training import LabelledRows

DAY_MS = 86_400_000
SMALLER_IS_BETTER = ("brier", "ece")


@dataclass(frozen=True)
class Interval:
    """A figure on the judged rows, and between what the bootstrap has it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


@dataclass(frozen=True)
class Comparison:
    """The challenger's figures less another model's, on the same rows."""

    f2: Interval
    average_precision: Interval


@dataclass(frozen=True)
class Evidence:
    """Everything that a verdict follows from.

    Attributes:
        rows, frauds, customers, merchants: how many are judged.
        begin, end: their time, ms; `end` is the newest moment that is mature.
        days: how many whole days with rows there are, counted back from `end`.
        missed_floors: the challenger's metrics that aren't better than chance.
        above_chance: its average precision less that of a random order; None: no fraud is judged.
        champion: against the champion; None: there is none, or it can't be scored, or no fraud is judged.
        incomparable: why the champion may not be compared on these rows, in words.
        champion_age_days: by the label clock: from the champion's T to the challenger's.
        reference: against the last model that was promoted for being better; None: it is the champion, there
            is none, or it can't be scored.
        no_reference: why it can't, in words.
        empty_draws: the share of draws without any fraud.
        figures: model -> {f2, average_precision}, as they are on the rows.
    """

    rows: int
    frauds: int
    customers: int
    merchants: int
    begin: int
    end: int
    days: int
    missed_floors: tuple[str, ...] = ()
    above_chance: Interval | None = None
    champion: Comparison | None = None
    incomparable: str | None = None
    champion_age_days: float | None = None
    reference: Comparison | None = None
    no_reference: str | None = None
    empty_draws: float = 0.0
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


Other = Bundle | str | None  # a model to compare with, why it can't be scored, or that there is none


def gather(
    rows: "LabelledRows", challenger: Bundle, champion: Other, reference: Other, rules: Rules, *, seed: int
) -> Evidence:
    """Score every model on the challenger's judged rows, each at its own threshold, and compare.

    The judged rows are those from the begin of the challenger's judge part on: nothing about it was fitted,
    calibrated or chosen on them. The reference may have been trained on some: it is only harder to equal then.

    Args:
        rows: known at the challenger's T, or later.
        champion, reference: None: there is none (a reference that is the champion counts as none).
        seed: the same rows, models and seed give the same evidence.

    Raises:
        ModelError: the challenger doesn't say what it was trained on, or the rows are older than it.
    """
    window = Window.of(challenger)
    if rows.as_of < window.as_of:
        raise ModelError(
            f"the rows are known at {format_time(rows.as_of)}, the challenger at {format_time(window.as_of)}: "
            "judge it on the rows of its own moment, or of a later one"
        )
    index = np.flatnonzero(rows.times >= window.judge)
    frauds, end = rows.frauds[index], rows.as_of - rows.maturity
    compared: dict[str, Any] = {}
    if frauds.any():
        blocks = Blocks(frauds, _codes(rows.cards[index]), _codes(rows.merchants[index]))
        bundles = {"champion": champion, "reference": reference}
        models = {"challenger": challenger, **{k: b for k, b in bundles.items() if isinstance(b, Bundle)}}
        matrix = rows.matrix[index]
        answers = {name: Answers(Scorer(bundle).predict(matrix), bundle.review) for name, bundle in models.items()}
        compared = compare(blocks, answers, rules, seed=seed)
    return Evidence(
        rows=len(index),
        frauds=int(frauds.sum()),
        customers=len(np.unique(rows.cards[index])),
        merchants=len(np.unique(rows.merchants[index])),
        begin=window.judge,
        end=end,
        days=whole_days(rows.times[index], window.judge, end),
        missed_floors=missed_floors(challenger.metrics),
        incomparable=_incomparable(champion, rows.times[index]),
        champion_age_days=_age_days(champion, window.as_of),
        no_reference=reference if isinstance(reference, str) else None,
        **compared,
    )


def compare(blocks: Blocks, answers: Mapping[str, Answers], rules: Rules, *, seed: int) -> dict[str, Any]:
    """Return those of Evidence's values that follow from scores.

    Args:
        blocks: the judged rows; there is a fraud among them.
        answers: of the challenger, and of the champion and the reference where they are to be compared.
    """
    models = dict(sorted(answers.items(), key=lambda item: item[0] != "challenger"))
    whole = measure(blocks, list(models.values()))
    drawn = resample(blocks, list(models.values()), draws=rules.draws, seed=seed)

    def less(i: int) -> Comparison:
        f2, precision = (
            _interval(at[0, 0] - at[i, 0], of[0] - of[i], rules.confidence)
            for at, of in zip(whole[:2], drawn[:2], strict=True)
        )
        return Comparison(f2, precision)

    at, of = (figures.average_precision[0] - figures.chance for figures in (whole, drawn))
    return {
        "above_chance": _interval(at[0], of, rules.confidence),
        "empty_draws": float(np.isnan(drawn.chance).mean()),
        "figures": {
            name: {"f2": float(whole.f2[i, 0]), "average_precision": float(whole.average_precision[i, 0])}
            for i, name in enumerate(models)
        },
        **{name: less(i) for i, name in enumerate(models) if i > 0},
    }


def _interval(value: float, drawn: npt.NDArray[np.float64], confidence: float) -> Interval:
    """Return the percentile interval; draws without a fraud say nothing."""
    held = drawn[~np.isnan(drawn)]
    low, high = np.quantile(held, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(held) else (-1.0, 1.0)
    return Interval(float(value), float(low), float(high))


@dataclass(frozen=True)
class Window:
    """When a bundle's T was, and which time was used for what; ms."""

    as_of: int
    fit: int  # training, calibration and choice of thresholds lie in [fit, chosen)
    chosen: int
    judge: int

    @classmethod
    def of(cls, bundle: Bundle) -> "Window":
        """Read a bundle's training window; raises ModelError where it doesn't say."""
        try:
            parts = bundle.window["parts"]
            return cls(
                as_of=parse_time(bundle.window["as_of"]),
                fit=parse_time(parts["fit"]["from"]),
                chosen=parse_time(parts["threshold"]["to"]),
                judge=parse_time(parts["judge"]["from"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ModelError(f"its window doesn't say what it was trained on ({exc}); train it again") from exc


def _incomparable(champion: Other, times: npt.NDArray[np.int64]) -> str | None:
    """Say why the champion may not be compared on rows of these times, if so."""
    if not isinstance(champion, Bundle):
        return champion
    try:
        window = Window.of(champion)
    except ModelError as exc:
        return str(exc)
    seen = int(((times >= window.fit) & (times < window.chosen)).sum())
    if seen == 0:
        return None
    return f"it was trained on {seen:,} of the {len(times):,} judged rows, up to {format_time(window.chosen)}"


def _age_days(champion: Other, as_of: int) -> float | None:
    try:
        return (as_of - Window.of(champion).as_of) / DAY_MS if isinstance(champion, Bundle) else None
    except ModelError:  # said by `_incomparable`
        return None


def missed_floors(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of a bundle's judgement that aren't better than chance.

    Where chance is as good as the oracle nothing can be shown, so nothing is asked.

    >>> missed_floors({"values": {"f2": 0.5, "ece": 0.2}, "floors": {"f2": 0.1, "ece": 0.1}, "oracles": {}})
    ('ece',)
    >>> missed_floors({})
    ('all: it was never judged',)
    """
    values, floors, oracles = (metrics.get(name) or {} for name in ("values", "floors", "oracles"))
    if not values:
        return ("all: it was never judged",)
    return tuple(
        name
        for name, floor in floors.items()
        if name in values
        and floor != oracles.get(name)
        and not (values[name] < floor if name in SMALLER_IS_BETTER else values[name] > floor)
    )


def whole_days(times: npt.NDArray[np.int64], begin: int, end: int) -> int:
    """Return how many of the days before `end` lie after `begin` as a whole and have a row; all in ms.

    >>> whole_days(np.array([0, 1, 2 * DAY_MS]), 0, 3 * DAY_MS)
    2
    """
    back = (end - times) // DAY_MS
    return len(np.unique(back[(back >= 0) & (end - (back + 1) * DAY_MS >= begin)]))


def _codes(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number the groups that occur from 0 on."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)
