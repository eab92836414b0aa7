"""What MLflow calls to load and apply a bundle; it travels with the artefact (see `carrier`)."""

from pathlib import Path
from typing import Any

import numpy as np

from fraud.model import Bundle, Scorer, decision

Frame = Any  # pandas.DataFrame, which has no types


class Served:
    """A bundle as MLflow's pyfunc: feature columns in, three columns out."""

    def __init__(self, bundle: Bundle) -> None:
        self._names = list(bundle.feature_names)
        self._scorer = Scorer(bundle)

    def predict(self, rows: Frame, params: dict[str, Any] | None = None) -> Frame:  # noqa: ARG002
        """Return fraud_probability, prediction (0/1 at the REVIEW threshold) and decision of each row.

        Args:
            rows: the feature columns, float64; NaN or None is a missing value.
            params: unused; MLflow passes it.
        """
        import pandas as pd  # type: ignore[import-untyped]

        scorer = self._scorer
        matrix = rows[self._names].to_numpy(np.float64, na_value=np.nan)
        probabilities = scorer.predict(np.ascontiguousarray(matrix))
        return pd.DataFrame(
            {
                "fraud_probability": probabilities,
                "prediction": (probabilities >= scorer.review).astype(np.int64),
                "decision": [decision(float(p), scorer.review, scorer.block) for p in probabilities],
            },
            index=rows.index,
        )


def _load_pyfunc(path: str) -> Served:
    """Load the bundle in the folder `path`; MLflow looks for this name."""
    return Served(Bundle.from_dir(Path(path), any_features=True))
