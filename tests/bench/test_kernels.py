"""The feature kernels' measurement: the pasts are what they claim, and figures grow with them."""

import numpy as np
import pytest

from fraud.bench import kernels
from fraud.features import ACCEPTED, FEATURE_NAMES


@pytest.mark.parametrize("length", [1, 60, 512])
def test_an_event_sees_its_whole_history(length: int) -> None:
    folded = kernels.past(3, length).fold()
    assert (folded.status == ACCEPTED).all()
    assert (folded.matrix[:, FEATURE_NAMES.index("user_txn_count_30d")] == length).all()
    assert np.isfinite(folded.matrix[:, FEATURE_NAMES.index("user_avg_amount_30d")]).all()


def test_a_longer_history_costs_more() -> None:
    result = kernels.run(100, 3, lambda _: None, lengths=(1, 60, 400))
    short, long = (result["entries"][name]["fold"]["range"][0] for name in ("1", "400"))
    assert long > 2 * short  # forty times as much where nobody else works; test_guard.py looks closer
    assert set(result["entries"]["60"]) == {"fold", "fold_one", "unpack", "pack"}
    assert result["merchants"]["1000"]["batch"]["range"][0] > result["merchants"]["1"]["batch"]["range"][0]
    assert result["machine"]["cores"] >= 1
    assert result["repeats"] == 3
