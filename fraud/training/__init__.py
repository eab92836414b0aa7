"""From labelled rows to a bundle: four parts in time order, a booster, its calibration and its thresholds."""

from fraud.training.boosting import Parameters, fit_booster
from fraud.training.parts import Part, Shares, split
from fraud.training.pipeline import Trained, train
from fraud.training.rows import MATURITY, LabelledRows, labelled_rows

__all__ = [
    "MATURITY",
    "LabelledRows",
    "Parameters",
    "Part",
    "Shares",
    "Trained",
    "fit_booster",
    "labelled_rows",
    "split",
    "train",
]
