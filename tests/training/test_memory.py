"""Memory that runs out, for real: the limit is the kernel's, the error XGBoost's; each in a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Whatever is larger than a page or two comes from the kernel and goes back to it: nothing is left over from
# earlier fits that a later one could live on.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0", "OMP_WAIT_POLICY": "passive"}
COMMON = """
import json, resource, sys
import psutil, xgboost
from fraud.errors import ModelError
from fraud.training import Parameters, fit_booster
from fraud.training import search as module
from tests.training.synthetic import synthetic_rows

def limit(size):
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))

def tight():
    limit(psutil.Process().memory_info().vms + 64 * 1024)

rows = synthetic_rows()
# Loads what it needs and starts OpenMP's threads: libgomp ends a process (exit 1) in which it can't.
fit_booster(rows.matrix, rows.frauds, Parameters(trees=2, smote_ratio=1.0), seed=1, threads=2)
"""
SEARCH = """
wanted, fits, fit = {wanted}, [], xgboost.XGBClassifier.fit

def counted(self, *given, **named):
    fits.append(None)
    if len(fits) not in wanted:
        return fit(self, *given, **named)
    tight()
    try:
        return fit(self, *given, **named)
    finally:
        limit(resource.RLIM_INFINITY)

xgboost.XGBClassifier.fit = counted
chosen = module._distributions()
module._distributions = lambda: {{**chosen, "model__n_estimators": [10]}}
try:
    found = module.search(rows.matrix, rows.times, rows.frauds, 3, seed=1, threads=1)
except ModelError as exc:
    print(json.dumps({{"refused": str(exc)}}))
else:
    print(json.dumps(found.to_dict()))
"""
FIT = """
tight()
try:
    fit_booster(rows.matrix, rows.frauds, Parameters(trees=20, smote_ratio={ratio}), seed=1, threads=2)
except ModelError as exc:
    limit(resource.RLIM_INFINITY)
    print(json.dumps({{"refused": str(exc)}}))
"""


def run(script: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", COMMON + script],
        env={**os.environ, **ALLOCATOR},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_candidate_that_the_memory_does_not_suffice_for_is_out_and_recorded() -> None:
    found = run(SEARCH.format(wanted={5}))  # the second candidate's second fold
    assert found["failures"] == ["xgboost.core.XGBoostError: std::bad_alloc"]
    (failed,) = (each for each in found["candidates"] if each["average_precision"] is None)
    assert [score is None for score in failed["folds"]] == [False, True, False]
    assert found["best"] == {name: found["candidates"][0][name] for name in found["best"]}


def test_a_search_in_which_the_memory_suffices_for_nobody_is_refused() -> None:
    refused = run(SEARCH.format(wanted=set(range(1, 10))))["refused"]
    assert refused == "none of 3 candidates could be fitted: xgboost.core.XGBoostError: std::bad_alloc"


@pytest.mark.parametrize("ratio", [None, 1.0])
def test_a_fit_that_the_memory_does_not_suffice_for_is_refused_with_what_to_do(ratio: float | None) -> None:
    refused = run(FIT.format(ratio=ratio))["refused"]
    assert refused.startswith("the memory doesn't suffice to fit 20 trees of depth 4 to ")
    assert refused.endswith("rows: give the process more, or train on fewer days")
