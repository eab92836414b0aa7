"""Servers that go away while a model is trained or registered: nothing is lost, nothing half done, a re-run ends it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fraud import registry
from fraud.backfill.archived import append_past
from fraud.cli.main import app
from fraud.dataset import Dataset, load, to_rows
from fraud.errors import ServiceError
from fraud.lake import open_lake
from fraud.model import Bundle
from fraud.registry import artefact, pending
from fraud.registry.connection import EXPERIMENT, connected
from fraud.settings import Settings
from producer.simulate import Config, generate
from tests import servers
from tests.training.synthetic import search_few_trees

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]

SMALL = ("--trees", "20", "--depth", "3", "--min-frauds", "10", "--threads", "1", "--json")


@dataclass(frozen=True)
class Rig:
    """S3 and MLflow of this module's own, since they are killed, and a training set in the lake."""

    settings: Settings
    s3: servers.Server
    mlflow: servers.Server
    dataset: str

    def run(self, *words: str) -> str:
        environment = servers.environment(self.settings)
        result = CliRunner().invoke(app, list(words), env=environment, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    def train(self, seed: int, *words: str) -> dict[str, Any]:
        size = ("--candidates", "0", "--seed", str(seed), *SMALL)
        return dict(json.loads(self.run("train", "--dataset", self.dataset, *size, *words)))

    def start(self, server: servers.Server) -> None:
        """Start a server; S3 answers a moment before it finds its objects again."""
        server.start()
        servers.wait_for("S3 finds the training set again", self.readable)

    def readable(self) -> bool:
        try:
            return len(to_rows(load(self.settings, self.dataset)).times) > 0
        except ServiceError:
            return False

    def runs(self, which: str) -> list[Any]:
        """Return the runs that MLflow finds, oldest first."""
        with connected(self.settings) as client:
            experiment = client.get_experiment_by_name(EXPERIMENT)
            assert experiment is not None
            return list(client.search_runs([experiment.experiment_id], which, order_by=["start_time"]))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    settings = servers.settings(tmp_path_factory.mktemp("registration"))
    with servers.running_s3(settings) as s3, servers.running_mlflow(settings) as mlflow:
        past = generate(Config(start=datetime(2026, 1, 1, tzinfo=UTC), days=40, seed=2, users=500, merchants=100))
        append_past(open_lake(settings), past.transactions, past.labels, query="past")
        rig = Rig(settings, s3, mlflow, "")
        built = json.loads(rig.run("dataset", "--as-of", "2026-02-10", "--json"))
        yield Rig(settings, s3, mlflow, built["uri"])


@pytest.fixture(autouse=True)
def up_again(rig: Rig) -> Iterator[None]:
    """Start what a test has killed."""
    yield
    for server in (rig.s3, rig.mlflow):
        if server.process is None:
            rig.start(server)


def kept(rig: Rig) -> list[Path]:
    return sorted((rig.settings.data / pending.FOLDER).glob("*"))


def never(*_: object, **__: object) -> None:
    raise AssertionError("it was trained again")


Step = Callable[..., Any]


def before(kill: Callable[[], None], step: Step) -> Step:
    def killed(*given: Any, **named: Any) -> Any:
        kill()
        return step(*given, **named)

    return killed


def after(kill: Callable[[], None], step: Step) -> Step:
    def killed(*given: Any, **named: Any) -> Any:
        done = step(*given, **named)
        kill()
        return done

    return killed


@pytest.mark.parametrize(
    ("seed", "gone", "step", "when", "left"),
    [
        (11, "mlflow", "_log_pyfunc", before, "KILLED"),  # the run has begun
        (12, "mlflow", "_register", before, "FINISHED"),  # everything but the version is there
        (13, "mlflow", "_register", after, "FINISHED"),  # the version is there, and nobody was told
        (14, "s3", "_log_pyfunc", before, "FAILED"),
    ],
)
def test_a_server_that_goes_away_at_registration_costs_no_training(
    rig: Rig,
    seed: int,
    gone: str,
    step: str,
    when: Callable[[Callable[[], None], Step], Step],
    left: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    rig.train(seed, "--no-register", "--out", str(tmp_path))
    expected, server = Bundle.from_dir(tmp_path), getattr(rig, gone)
    versions = set(registry.look(rig.settings).versions)
    with monkeypatch.context() as patched:
        patched.setattr(artefact, step, when(server.kill, getattr(artefact, step)))
        with pytest.raises(ServiceError, match=r"MLflow at .* The trained model is kept in .*: .* --reuse") as told:
            rig.train(seed, "--reuse")
    (file,) = kept(rig)
    assert str(file) in str(told.value)
    monkeypatch.setattr("fraud.training.train", never)
    if gone == "mlflow":  # known before anything is trained
        with pytest.raises(ServiceError, match=r"MLflow at .* doesn't answer"):
            rig.train(seed + 10)
    rig.start(server)
    seen = registry.look(rig.settings)
    assert set(seen.versions) - versions == ({max(seen.versions, key=int)} if when is after else set())
    assert seen.production is None

    result = rig.train(seed, "--reuse")
    assert set(registry.look(rig.settings).versions) - versions == {result["version"]}
    assert registry.fetch(rig.settings, result["version"]).to_bytes() == expected.to_bytes()
    runs = rig.runs(f"tags.training = '{file.stem}'")
    assert [run.info.status for run in runs] == ([left] if when is after else [left, "FINISHED"])
    assert runs[-1].info.run_id == result["run_id"]
    assert kept(rig) == []
    assert rig.train(seed, "--reuse")["version"] == result["version"]


def test_s3_away_while_the_training_set_is_read_is_said_and_a_rerun_trains(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Dataset, "part", after(rig.s3.kill, Dataset.part))
        with pytest.raises(ServiceError, match="S3"):
            rig.train(1, "--no-register")
    rig.start(rig.s3)
    assert rig.train(1, "--no-register")["rows"] > 0


def test_every_candidate_is_a_run_below_the_trainings(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_trees(monkeypatch, 10, 20)
    result = json.loads(
        rig.run(
            "train", "--dataset", rig.dataset, "--candidates", "3", "--seed", "5",
            "--min-frauds", "10", "--threads", "1", "--json",
        )
    )  # fmt: skip
    below = rig.runs(f"tags.`mlflow.parentRunId` = '{result['run_id']}'")
    assert [run.info.run_name for run in below] == ["candidate 1", "candidate 2", "candidate 3", "the default"]
    logged = [run.data.metrics["average_precision"] for run in below[:3]]
    assert sorted(logged, reverse=True) == [each["average_precision"] for each in result["search"]["candidates"]]
    (best,) = (run for run in below if run.data.tags["best"] == "true")
    final = [run.data.metrics.get("average_precision_all_rows", 0.0) for run in below]
    assert best.data.metrics["average_precision_all_rows"] == max(final)
    assert best.data.params["trees"] == str(result["search"]["best"]["trees"])
    assert {run.info.status for run in below} == {"FINISHED"}
