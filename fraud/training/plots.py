"""A training's pictures as PNG: what the numbers of its report look like.

Figures are made without pyplot: no window, no state that a second training would meet.
"""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from fraud.booster import load_booster
from fraud.evaluation import BETA
from fraud.training.pipeline import Scored, Trained
from fraud.training.thresholds import cumulated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 10
FRAUD, OTHER, MARK = "#c0392b", "#2471a3", "#555555"
TOP_FEATURES = 20
DPI = 110


def plots(trained: Trained) -> dict[str, bytes]:
    """Return file name → PNG: precision and recall, ROC, reliability, scores by class, features, thresholds."""
    judged = trained.scored["judge"]
    drawn: dict[str, Callable[[Axes], None]] = {
        "precision_recall": lambda axes: _precision_recall(axes, judged, trained),
        "roc": lambda axes: _roc(axes, judged),
        "reliability": lambda axes: _reliability(axes, judged),
        "scores_by_class": lambda axes: _scores(axes, judged, trained),
        "feature_importance": lambda axes: _importance(axes, trained),
        "threshold_f2": lambda axes: _thresholds(axes, trained),
    }
    return {f"plots/{name}.png": _png(draw) for name, draw in drawn.items()}


def _png(draw: "Callable[[Axes], None]") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    axes.grid(alpha=0.25)
    out = BytesIO()
    # Without the date and the version of matplotlib: the same training, the same bytes.
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def _precision_recall(axes: "Axes", judged: Scored, trained: Trained) -> None:
    _, flagged, hits = cumulated(judged.probabilities, judged.frauds)
    total = int(judged.frauds.sum())
    axes.step(hits / total, hits / flagged, where="post", color=FRAUD)
    counts = trained.judgement.confusion
    recall, precision = (trained.judgement.values[name] for name in ("recall", "precision"))
    axes.plot([recall], [precision], "o", color=MARK, label=f"at REVIEW: {counts['tp']} of {total} frauds")
    axes.axhline(judged.frauds.mean(), color=MARK, linestyle=":", label="random")
    _name(axes, "recall", "precision", f"average precision {trained.judgement.values['average_precision']:.3f}")
    axes.legend()


def _roc(axes: "Axes", judged: Scored) -> None:
    _, flagged, hits = cumulated(judged.probabilities, judged.frauds)
    frauds = int(judged.frauds.sum())
    axes.plot((flagged - hits) / (len(judged.frauds) - frauds), hits / frauds, color=FRAUD)
    axes.plot([0, 1], [0, 1], color=MARK, linestyle=":", label="random")
    _name(axes, "share of other transactions flagged", "share of frauds flagged", "ROC")
    axes.legend()


def _reliability(axes: "Axes", judged: Scored) -> None:
    """Bins of equal width, as in ECE; a point's size is the logarithm of its rows."""
    place = np.minimum((judged.probabilities * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    said = np.bincount(place, judged.probabilities, BINS)
    true = np.bincount(place, judged.frauds.astype(np.float64), BINS)
    some = rows > 0
    axes.plot([0, 1], [0, 1], color=MARK, linestyle=":", label="perfect")
    axes.plot(said[some] / rows[some], true[some] / rows[some], color=OTHER)
    axes.scatter(said[some] / rows[some], true[some] / rows[some], s=12 * np.log1p(rows[some]), color=OTHER)
    _name(axes, "mean probability of the bin", "share of frauds in it", "reliability")
    axes.legend()


def _scores(axes: "Axes", judged: Scored, trained: Trained) -> None:
    edges = np.linspace(0, 1, 41)
    for flags, name, colour in ((~judged.frauds, "legitimate", OTHER), (judged.frauds, "fraud", FRAUD)):
        axes.hist(judged.probabilities[flags], edges.tolist(), alpha=0.55, color=colour, label=name)
    axes.axvline(trained.thresholds.review, color=MARK, linestyle="--", label="REVIEW")
    if trained.thresholds.block is not None:
        axes.axvline(trained.thresholds.block, color=MARK, label="BLOCK")
    axes.set_yscale("log")
    _name(axes, "fraud_probability", "transactions (logarithmic)", "scores by class")
    axes.legend()


def _importance(axes: "Axes", trained: Trained) -> None:
    booster = load_booster(trained.bundle.booster, trained.bundle.feature_names)
    gains = sorted(booster.get_score(importance_type="total_gain").items(), key=lambda item: item[1])[-TOP_FEATURES:]
    total = sum(gain for _, gain in gains) or 1.0
    axes.barh([name for name, _ in gains], [gain / total for _, gain in gains], color=OTHER)
    axes.tick_params(axis="y", labelsize=7)
    _name(axes, "share of the total gain", "", "what the booster splits on")


def _thresholds(axes: "Axes", trained: Trained) -> None:
    chosen_on = trained.scored["threshold"]
    scores, flagged, hits = cumulated(chosen_on.probabilities, chosen_on.frauds)
    f2 = (1 + BETA**2) * hits / (BETA**2 * chosen_on.frauds.sum() + flagged)
    axes.plot(scores, f2, color=FRAUD)
    best = trained.thresholds
    axes.plot([best.review], [best.f2], "o", color=MARK, label=f"REVIEW {best.review:.4f}, F2 {best.f2:.3f}")
    _name(axes, "threshold", "F2", "F2 on the rows that chose the threshold")
    axes.legend()


def _name(axes: "Axes", x: str, y: str, title: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
