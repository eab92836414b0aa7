"""The shipped stack from outside, in the order in which a user meets it; each test goes on where the last ended."""

import base64
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fraud import bus
from fraud.model import BOOSTER
from fraud.registry.connection import MODEL
from fraud.s3 import s3_client
from fraud.stack import airflow
from tests.compose import answers, engine
from tests.compose.conftest import Stack
from tests.servers import wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1_800)]

DAG = "retrain"
LONG_RUNNING = {
    *("kafka", "minio", "postgres", "redis", "online-store", "mlflow", "stream", "archive", "producer"),
    *("api-server", "scheduler", "dag-processor", "triggerer", "worker", "flower"),
}
EIGHT_GB = 8 * 1024


def mlflow(stack: Stack, path: str, body: object = None) -> dict[str, object]:
    found: dict[str, object] = engine.request(f"{stack.settings.mlflow_uri}/api/2.0/mlflow/{path}", body)
    return found


def produced(stack: Stack, count: int, rate: int = 200) -> set[answers.Place]:
    """Send transactions from the host, one in fifty broken; return their offsets and what came between them."""
    words = ("produce", "--count", str(count), "--rate", str(rate), "--bad", "0.02", "--seed", "7", "--users", "500")
    return answers.places(stack.command(*words)["offsets"])


def test_all_is_healthy_and_fits(stack: Stack) -> None:
    states = engine.states()
    assert set(states) >= LONG_RUNNING
    for name, state in states.items():
        if name in LONG_RUNNING:
            assert (state["State"], state["Health"]) == ("running", "healthy"), name
        else:
            assert (state["State"], state["ExitCode"]) == ("exited", 0), name
    used = engine.memory()
    stack.report("memory_mb", {name: round(each) for name, each in sorted(used.items())})
    stack.report("memory_mb_sum", round(sum(used.values())))
    assert sum(used.values()) <= EIGHT_GB


def test_the_four_topics_are_there_with_their_settings(stack: Stack) -> None:
    assert bus.topic_problems(stack.settings) == []


def test_a_first_model_as_the_runbook_says(stack: Stack) -> None:
    """Once per set of volumes: what is in the registry tells whether it was."""
    if not stack.command("models")["versions"]:
        engine.run("make", "compose-model", seconds=15 * engine.MINUTES)
        engine.wait_healthy("stream", "archive", "producer")
    assert any("Production" in each["aliases"] for each in stack.command("models")["versions"])


def test_a_model_from_the_host_is_promoted_by_mlflows_rest_api_and_decides(stack: Stack, tmp_path: Path) -> None:
    """The artefact goes up and comes down through MLflow's port alone: the store behind it has no address here."""
    if len(stack.command("models")["versions"]) == 1:
        past = str(tmp_path / "past")
        start = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%d")
        stack.command("simulate", "--days", "30", "--users", "1500", "--start", start, "--out", past)
        stack.command("train", "--from", past)
    newest = max(int(each["version"]) for each in stack.command("models")["versions"])
    mlflow(stack, "registered-models/alias", {"name": MODEL, "alias": "Production", "version": str(newest)})
    before = answers.ends(stack.settings.kafka_bootstrap)

    def decides() -> bool:
        sent = produced(stack, 20)
        return str(newest) in answers.read(stack.settings.kafka_bootstrap, before, sent, 20).versions()

    wait_for(f"version {newest} decides", decides, 120, every=1)


def test_every_message_is_answered_once(stack: Stack) -> None:
    before = answers.ends(stack.settings.kafka_bootstrap)
    sent = produced(stack, 2_000)
    found = answers.read(stack.settings.kafka_bootstrap, before, sent, 120)
    assert not found.missing(sent)
    assert not found.contradictions()


def test_a_client_on_the_host_downloads_an_artefact(stack: Stack, tmp_path: Path) -> None:
    """MLflow's own client, set as the runbook says: else it is given addresses of the network inside."""
    newest = stack.command("models")["versions"][0]["version"]
    program = (
        "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1]); "
        f"print(mlflow.pyfunc.load_model('models:/{MODEL}/{newest}').metadata.signature.outputs)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, stack.settings.mlflow_uri],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "fraud_probability" in done.stdout


def test_mlflow_refuses_a_strange_host_and_knows_its_own(stack: Stack) -> None:
    url = f"{stack.settings.mlflow_uri}/api/2.0/mlflow/experiments/search?max_results=1"
    with pytest.raises(AssertionError, match="403"):
        engine.request(url, headers=[("Host", "evil.example")])
    for host in ("mlflow:5000", "localhost:5000", "127.0.0.1:5000"):
        engine.request(url, headers=[("Host", host)])


def test_artefacts_are_in_minio_and_the_lake_is(stack: Stack) -> None:
    client = s3_client(stack.settings)
    artefacts = client.list_objects_v2(Bucket="mlflow")["Contents"]
    assert any(each["Key"].endswith(f"/{BOOSTER}") for each in artefacts), [each["Key"] for each in artefacts][:20]
    tables = client.list_objects_v2(Bucket="lake", Delimiter="/")["CommonPrefixes"]
    assert {"transactions/", "predictions/", "labels/"} <= {each["Prefix"] for each in tables}


def test_each_user_of_s3_has_its_rights_and_no_more(stack: Stack) -> None:
    from botocore.exceptions import ClientError

    known = engine.secrets()
    may = {"mlflow": ("mlflow",), "archive": ("lake",), "retrain": ("lake",), "doctor": ()}
    for name, buckets in may.items():
        secret = known[f"S3_{name.upper()}_SECRET"]
        client = s3_client(
            stack.settings.model_validate({**dict(stack.settings), "s3_access_key": name, "s3_secret_key": secret})
        )
        for bucket in ("mlflow", "lake"):
            if bucket in buckets:
                client.put_object(Bucket=bucket, Key=".test", Body=b"x")
                client.delete_object(Bucket=bucket, Key=".test")
            else:
                with pytest.raises(ClientError, match="AccessDenied"):
                    client.put_object(Bucket=bucket, Key=".test", Body=b"x")


def test_metadata_are_in_postgres() -> None:
    def ask(database: str, question: str) -> str:
        return engine.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", database, "-Atc", question)

    assert int(ask("mlflow", "SELECT count(*) FROM model_versions")) >= 1
    assert DAG in ask("airflow", "SELECT dag_id FROM dag")


def test_the_dag_runs_through_airflows_rest_api_and_celery(stack: Stack) -> None:
    run = airflow.trigger(stack.settings, DAG, {"candidates": 2})
    state = airflow.wait(stack.settings, DAG, run, 900)
    assert state == "success", airflow.tasks(stack.settings, DAG, run)
    worker = engine.container("worker")[:12]
    query = "SELECT task_id || ' ' || hostname FROM task_instance WHERE run_id = '" + run + "'"
    ran = engine.compose("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "airflow", "-Atc", query)
    assert ran
    for line in ran.splitlines():
        assert worker in line, ran
    login = base64.b64encode(f"admin:{engine.secrets()['FLOWER_PASSWORD']}".encode()).decode()
    flower = f"http://{engine.address('flower', 5555)}"
    seen = engine.request(f"{flower}/api/tasks?limit=100", headers=[("Authorization", f"Basic {login}")])
    assert any(task["state"] == "SUCCESS" for task in seen.values())
    with pytest.raises(AssertionError, match="401"):
        engine.request(f"{flower}/api/tasks")


def test_doctor_finds_nothing_wrong_inside_the_stack() -> None:
    said = engine.run("docker", "compose", "run", "--rm", "--no-deps", "-T", "doctor", "doctor", "--json", check=False)
    found = json.loads(said.splitlines()[-1])
    assert found["problems"] == 0, [each for each in found["findings"] if each["level"] == "problem"]
