"""A bundle goes into MLflow and comes back; its pyfunc needs nothing of ours."""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
import pytest

from fraud import registry
from fraud.errors import ModelError, ServiceError, StateError
from fraud.features import FEATURE_NAMES
from fraud.model import FILES, Scorer
from fraud.registry import carrier
from fraud.registry.connection import connected
from fraud.settings import Settings
from tests import servers
from tests.bundles import random_rows, tiny_bundle
from tests.registry.broken import FOLDER_OF, objects

# Loads the artefact with MLflow alone, scores a matrix and says what it found.
CLEAN = """
import importlib.util, json, sys
import numpy as np, pandas as pd
assert importlib.util.find_spec("fraud") is None, "this package is installed here"
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.DataFrame(np.load(sys.argv[2]), columns=model.metadata.get_input_schema().input_names())
answers = model.predict(rows)
np.save(sys.argv[3], answers["fraud_probability"].to_numpy())
print(json.dumps({"columns": list(answers), "prediction": answers["prediction"].tolist(),
                  "decision": answers["decision"].tolist(), "loaded": "fraud" in sys.modules}))
"""


@pytest.fixture(scope="module")
def logged(mlflow_server: servers.Server, stack_settings: Settings) -> registry.RegisteredVersion:
    return registry.log_model(
        stack_settings,
        tiny_bundle(window={"fit": ["2026-01-01T00:00:00Z", "2026-01-20T00:00:00Z"]}),
        run_name="first",
        metrics={"average_precision": 0.7, "f2": 0.6, "recall": 0.5},
        params={"trees": 20, "depth": 3},
        tags={"seed": "0"},
        artifacts={"report.json": b"{}", "plots/pr.svg": b"<svg/>"},
    )


@pytest.mark.server
def test_what_was_logged_comes_back_byte_for_byte(logged: registry.RegisteredVersion, stack_settings: Settings) -> None:
    bundle = registry.fetch(stack_settings, logged.version)
    sent = tiny_bundle(window={"fit": ["2026-01-01T00:00:00Z", "2026-01-20T00:00:00Z"]})
    assert bundle.to_bytes() == sent.to_bytes()
    with connected(stack_settings) as client:
        found = client.get_model_version(registry.MODEL, logged.version)
        run = client.get_run(logged.run_id)
        listed = {entry.path for entry in client.list_artifacts(logged.run_id)}
    assert found.current_stage == "None"
    assert found.tags["sha256"] == logged.sha256
    assert found.tags["seed"] == "0"
    assert json.loads(found.tags["window"]) == sent.window
    assert run.info.status == "FINISHED"
    assert run.data.metrics["average_precision"] == 0.7
    assert run.data.params["trees"] == "20"
    assert listed >= {"report.json", "plots"}


@pytest.mark.server
def test_the_artefact_holds_the_bundle_and_no_pickle(
    logged: registry.RegisteredVersion, stack_settings: Settings
) -> None:
    names = [key.rsplit("/", 1)[-1] for key in objects(stack_settings, logged.model_id)]
    assert set(names) >= {*FILES, "MLmodel", "requirements.txt", "serve.py"}
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".pyc"))]
    inside = [key for key in objects(stack_settings, logged.model_id) if f"/{FOLDER_OF}/" in key]
    assert len(inside) == len(FILES)


@pytest.mark.server
def test_it_loads_and_scores_the_same_where_our_package_is_not_installed(
    logged: registry.RegisteredVersion, stack_settings: Settings, tmp_path: Path
) -> None:
    matrix, _ = random_rows(500, seed=3)
    np.save(tmp_path / "rows.npy", matrix)
    done = subprocess.run(
        [_python_without_us(tmp_path), "-c", CLEAN, f"models:/{registry.MODEL}/{logged.version}",
         tmp_path / "rows.npy", tmp_path / "scores.npy"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MLFLOW_TRACKING_URI": stack_settings.mlflow_uri,
             "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    scores = Scorer(tiny_bundle()).predict(matrix)
    assert np.load(tmp_path / "scores.npy").tobytes() == scores.tobytes()
    assert said["columns"] == ["fraud_probability", "prediction", "decision"]
    assert said["prediction"] == (scores >= 0.3).astype(int).tolist()
    assert set(said["decision"]) == {"APPROVE", "REVIEW", "BLOCK"}
    assert not said["loaded"]


def _python_without_us(folder: Path) -> Path:
    """Return a Python that sees the libraries installed here, but neither this repository nor its install."""
    home = folder / "env"
    venv.create(home, with_pip=False)
    (inside,) = (home / "lib").glob("python*/site-packages")
    import mlflow

    libraries = Path(mlflow.__file__).parent.parent
    for entry in libraries.iterdir():
        # .pth files are how the editable install puts the repository on the path.
        if entry.suffix != ".pth" and not entry.name.startswith(("fraud", "_editable")):
            (inside / entry.name).symlink_to(entry)
    return home / "bin" / "python"


@pytest.mark.server
def test_a_version_that_does_not_exist_is_named(logged: registry.RegisteredVersion, stack_settings: Settings) -> None:
    for version in ("9999", "newest"):
        with pytest.raises(StateError, match=f"'{version}' of fraud-detector doesn't exist"):
            registry.fetch(stack_settings, version)


def test_a_server_that_is_away_is_named_with_its_setting(tmp_path: Path) -> None:
    settings = servers.settings(tmp_path)
    with pytest.raises(ServiceError, match=rf"{settings.mlflow_uri} \(FRAUD_MLFLOW_URI\).*doesn't answer"):
        registry.fetch(settings, "1")


def test_a_bundle_with_other_features_is_not_logged(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="other feature names"):
        registry.log_model(
            servers.settings(tmp_path), tiny_bundle(feature_names=("a", *FEATURE_NAMES[1:])),
            run_name="x", metrics={}, params={}, tags={}, artifacts={},
        )  # fmt: skip


def test_the_carried_modules_name_only_themselves() -> None:
    with tempfile.TemporaryDirectory() as folder:
        loader = carrier.pack(Path(folder) / "one")
        assert carrier.pack(Path(folder) / "two") == loader
        package = loader.split(".")[0]
        check = (
            "import sys, importlib.abc\n"
            "class Refuse(importlib.abc.MetaPathFinder):\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] == 'fraud': raise ImportError(name)\n"
            "sys.meta_path.insert(0, Refuse())\n"
            f"import {loader} as serve\nprint(serve._load_pyfunc.__module__)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", check], cwd=Path(folder) / "one", capture_output=True, text=True, check=False
        )
    assert done.stdout.strip() == f"{package}.serve", done.stderr
