"""From a booster's margin to a probability: three parameters that keep the ranking."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.errors import ModelError

Array = npt.NDArray[np.float64]

LEAST_SLOPE = 0.05  # a and b stay above it: strictly increasing in float64 too
PRIOR = 1.0  # weight of a, b = 1 in pseudo-observations; matters only with a handful of frauds


@dataclass(frozen=True)
class Calibrator:
    """Beta calibration of a margin: logit(p) = a·log(q) - b·log(1 - q) + c with q = sigmoid(margin).

    a and b are positive, so that it is strictly increasing and keeps the ranking.
    Source: Kull, Silva Filho and Flach, Beta calibration, AISTATS 2017.

    >>> float(Calibrator(1.0, 1.0, 0.0).apply(np.zeros(1))[0])
    0.5
    """

    a: float
    b: float
    c: float

    def __post_init__(self) -> None:
        if not (all(np.isfinite([self.a, self.b, self.c])) and self.a > 0 and self.b > 0):
            raise ModelError(f"calibrator a={self.a} b={self.b} c={self.c} isn't strictly increasing: a, b must be > 0")

    def apply(self, margins: npt.NDArray[np.floating[Any]]) -> Array:
        """Return the probabilities (n,) of `margins` (n,); each depends on its own margin only."""
        m = margins.astype(np.float64)
        log_q = -np.logaddexp(0.0, -m)
        logit = self.a * log_q - self.b * (log_q - m) + self.c
        return np.asarray(np.exp(-np.logaddexp(0.0, -logit)))

    def to_json(self) -> str:
        """Return the three parameters as JSON."""
        return json.dumps({"a": self.a, "b": self.b, "c": self.c, "kind": "beta"}, separators=(",", ":"))

    @classmethod
    def from_json(cls, raw: bytes) -> "Calibrator":
        """Read what `to_json` wrote; raises ModelError with the reason."""
        try:
            values = json.loads(raw)
            if values["kind"] != "beta":
                raise ModelError(f"the calibrator's kind {values['kind']!r} isn't known; 'beta' is")
            return cls(float(values["a"]), float(values["b"]), float(values["c"]))
        except (KeyError, TypeError, ValueError, RecursionError) as exc:
            raise ModelError(f"the calibrator is corrupt: {exc}") from exc


def fit_calibrator(margins: npt.NDArray[np.floating[Any]], frauds: npt.NDArray[np.bool_]) -> Calibrator:
    """Fit the calibrator by maximum likelihood on rows that the booster hasn't seen.

    Args:
        margins: (n,) the booster's margins.
        frauds: (n,) the labels.

    Raises:
        ModelError: one of the classes is absent.
    """
    from scipy.optimize import minimize

    positive = int(frauds.sum())
    if positive == 0 or positive == len(frauds):
        raise ModelError(f"a calibrator needs frauds and others; {positive} of {len(frauds)} rows are frauds")
    m = margins.astype(np.float64)
    log_q = -np.logaddexp(0.0, -m)
    inputs = np.column_stack([log_q, m - log_q, np.ones_like(m)])
    y = frauds.astype(np.float64)

    def loss(theta: Array) -> tuple[float, Array]:
        z = inputs @ theta
        p = np.exp(-np.logaddexp(0.0, -z))
        away = np.array([theta[0] - 1.0, theta[1] - 1.0, 0.0])
        value = np.logaddexp(0.0, z).sum() - y @ z + 0.5 * PRIOR * (away @ away)
        return float(value), inputs.T @ (p - y) + PRIOR * away

    best = minimize(
        loss, np.array([1.0, 1.0, 0.0]), jac=True, method="L-BFGS-B",
        bounds=[(LEAST_SLOPE, 50.0), (LEAST_SLOPE, 50.0), (-50.0, 50.0)], options={"maxiter": 500},
    )  # fmt: skip
    a, b, c = (float(value) for value in best.x)
    return Calibrator(a, b, c)
