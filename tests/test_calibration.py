"""Calibration keeps the ranking and repairs the probabilities."""

import numpy as np
import pytest

from fraud.calibration import Calibrator, fit_calibrator
from fraud.errors import ModelError


def test_neighbouring_margins_keep_their_order() -> None:
    calibrator = Calibrator(0.4, 1.7, -1.3)
    start = np.linspace(-10.0, 10.0, 20_000).astype(np.float32)
    after = np.nextafter(start, np.float32(np.inf))
    assert np.all(calibrator.apply(start) < calibrator.apply(after))
    far = np.linspace(-40.0, 40.0, 20_000).astype(np.float32)  # float64 ends near 1 - 1e-16
    assert np.all(calibrator.apply(far) <= calibrator.apply(np.nextafter(far, np.float32(np.inf))))


def test_probabilities_stay_within_zero_and_one_at_any_margin() -> None:
    p = Calibrator(0.4, 1.7, -1.3).apply(np.array([-3e38, -800.0, 0.0, 800.0, 3e38]))
    assert p[0] == 0.0
    assert p[-1] == 1.0
    assert np.all(np.diff(p) >= 0.0)


def test_json_brings_back_the_same_bits() -> None:
    calibrator = Calibrator(1 / 3, 2 / 3, -0.1)
    assert Calibrator.from_json(calibrator.to_json().encode()) == calibrator


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"kind":"platt"}', b'{"kind":"beta","a":1,"b":"x","c":0}'])
def test_a_corrupt_calibrator_is_refused(raw: bytes) -> None:
    with pytest.raises(ModelError, match="calibrator"):
        Calibrator.from_json(raw)


def test_the_fit_finds_the_distortion_that_made_the_labels() -> None:
    truth = Calibrator(0.7, 1.4, -1.0)
    rng = np.random.default_rng(3)
    margins = rng.normal(-2.0, 2.5, 60_000).astype(np.float32)
    frauds = rng.random(len(margins)) < truth.apply(margins)
    fitted = fit_calibrator(margins, frauds)
    assert np.max(np.abs(fitted.apply(margins) - truth.apply(margins))) < 0.03
    assert fit_calibrator(margins, frauds) == fitted


def test_separable_labels_still_give_an_increasing_calibrator() -> None:
    margins = np.linspace(-4.0, 4.0, 50)
    fitted = fit_calibrator(margins, margins > 0.0)
    assert np.all(np.diff(fitted.apply(margins)) > 0.0)
    upside_down = fit_calibrator(margins, margins < 0.0)
    assert np.all(np.diff(upside_down.apply(margins)) > 0.0)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ModelError, match="0 of 5"):
        fit_calibrator(np.zeros(5), np.zeros(5, bool))
