"""SMOTE for feature rows with missing values, codes and flags.

SMOTE (Chawla et al., JAIR 16, 2002) draws a synthetic row between a minority row and one of its neighbours.
As it stands it can't take a missing value, and between two codes it would find a third that means something
else. Here neighbours are sought on an imputed, scaled copy; a synthetic row is its parent, and only those of
its continuous features move that its parent and the neighbour both have.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from imblearn.over_sampling.base import BaseOverSampler
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state

from fraud.errors import ModelError
from fraud.features import FEATURES

CONTINUOUS = np.array([feature.kind == "float" for feature in FEATURES])
NEIGHBOURS = 5
Floats = npt.NDArray[np.float64]


class MissingAwareSMOTE(BaseOverSampler):  # type: ignore[misc]  # imblearn has no types
    """Oversample the minority of a matrix of features; the rows given come first and unchanged.

    Args:
        ratio: minority rows per majority row afterwards; None, or one that is there already: nothing is added.
        continuous: shape (features,), bool: which columns may move; None: the features that are no count, flag
            or code.
        neighbours: among how many a row's partner is drawn; fewer where there are fewer rows.
        random_state: the same rows and seed give the same synthetic rows.
    """

    _parameter_constraints: dict[str, list[Any]] = {}  # noqa: RUF012 - scikit-learn's protocol

    def __init__(
        self,
        ratio: float | None = None,
        *,
        continuous: npt.NDArray[np.bool_] | None = None,
        neighbours: int = NEIGHBOURS,
        random_state: int | None = None,
    ) -> None:
        super().__init__(sampling_strategy="auto")
        self.ratio, self.continuous, self.neighbours, self.random_state = ratio, continuous, neighbours, random_state

    def fit_resample(self, X: Floats, y: npt.NDArray[Any], **_: object) -> tuple[Floats, npt.NDArray[Any]]:
        """Return the rows with synthetic frauds behind them: X (n, features), NaN is null; y (n,), 1 is a fraud.

        Raises:
            ModelError: the ratio is out of (0, 1], or there are fewer than two frauds to draw between.
        """
        frauds = np.flatnonzero(y)
        wanted = 0
        if self.ratio is not None:
            if not 0 < self.ratio <= 1:
                raise ModelError(f"a SMOTE ratio of {self.ratio} is out of (0, 1]")
            wanted = round(self.ratio * (len(y) - len(frauds))) - len(frauds)
        if wanted <= 0:
            return X, y
        if len(frauds) < 2:
            raise ModelError(f"{len(frauds)} frauds among {len(y):,} rows: SMOTE draws between two of them")
        made = self._synthetic(np.asarray(X, np.float64)[frauds], wanted)
        return np.concatenate([X, made.astype(X.dtype)]), np.concatenate([y, np.ones(wanted, y.dtype)])

    # imblearn's own name for the work; `fit_resample` is overridden whole, since its checks refuse NaN.
    _fit_resample = fit_resample

    def _synthetic(self, minority: Floats, wanted: int) -> Floats:
        """Return `wanted` rows between rows of the minority and their neighbours."""
        random = check_random_state(self.random_state)
        among = min(self.neighbours, len(minority) - 1)
        space = comparable(minority)
        found = NearestNeighbors(n_neighbors=among + 1).fit(space).kneighbors(space, return_distance=False)
        parent = random.randint(0, len(minority), wanted)
        # The first of its own neighbours is a row itself, or a twin of it: as good.
        partner = found[parent, random.randint(1, among + 1, wanted)]
        share = random.random_sample(wanted)
        made: Floats = minority[parent].copy()
        continuous = CONTINUOUS if self.continuous is None else self.continuous
        step = share[:, None] * (minority[partner] - made)
        # NaN where either has no value: the parent's stays as it is, missing or not.
        move = continuous[None, :] & ~np.isnan(step)
        made[move] += step[move]
        return made


def comparable(rows: Floats) -> Floats:
    """Return rows in which distances mean something: no missing value, every column with deviation 1.

    A missing value becomes the column's median; a column of nothing but missing values, or of one value, is 0.
    Ranks of magnitude (amounts, counts) are brought together by a signed logarithm.
    """
    values: Floats = np.sign(rows) * np.log1p(np.abs(rows))
    missing = np.isnan(values)
    empty = missing.all(axis=0)
    values[:, empty] = 0.0
    middle = np.nanmedian(values, axis=0)
    values = np.where(np.isnan(values), middle, values)
    spread = values.std(axis=0)
    scaled: Floats = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled
