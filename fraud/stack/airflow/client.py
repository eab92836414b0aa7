"""Airflow's REST API: what `up`, `doctor` and the demo ask of it."""

import http.client
import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fraud.errors import ServiceError, StateError
from fraud.settings import Settings, without_secrets
from fraud.stack.airflow.keys import USER, password, password_file
from fraud.stack.ports import LOOPBACK

ENDED = frozenset({"success", "failed"})
POLL_SECONDS = 0.5
TIMEOUT_SECONDS = 20.0


def trigger(settings: Settings, dag_id: str, conf: dict[str, Any]) -> str:
    """Ask for a run of a DAG now, with its parameters in `conf`; return the run's id.

    Raises:
        StateError: Airflow was never started in this home.
        ServiceError: Airflow is away, or refuses: an unknown DAG, a parameter that isn't right.
    """
    # A null logical date: the run belongs to no hour of the schedule, so two of them don't collide.
    body = {"logical_date": None, "conf": conf}
    return str(_call(settings, "POST", f"/dags/{quote(dag_id)}/dagRuns", body)["dag_run_id"])


def state(settings: Settings, dag_id: str, run_id: str) -> str:
    """Return a run's state: `queued`, `running`, `success` or `failed`. Raises as `trigger`."""
    return str(_call(settings, "GET", _run(dag_id, run_id))["state"])


def tasks(settings: Settings, dag_id: str, run_id: str) -> dict[str, str | None]:
    """Return the state of each task of a run; None: not looked at yet. Raises as `trigger`."""
    found = _call(settings, "GET", f"{_run(dag_id, run_id)}/taskInstances")["task_instances"]
    return {each["task_id"]: each["state"] for each in found}


def runs(settings: Settings, dag_id: str, limit: int = 10) -> list[dict[str, Any]]:
    """Return the newest runs of a DAG, the newest first, as Airflow describes them. Raises as `trigger`."""
    query = urlencode({"order_by": "-run_after", "limit": limit})
    found = _call(settings, "GET", f"/dags/{quote(dag_id)}/dagRuns?{query}")["dag_runs"]
    return list(found)


def wait(settings: Settings, dag_id: str, run_id: str, timeout: float) -> str:
    """Return the state in which a run has ended: `success` or `failed`.

    Raises:
        ServiceError: it hasn't ended within `timeout` seconds; and as `trigger`.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = state(settings, dag_id, run_id)
        if found in ENDED:
            return found
        if time.monotonic() > deadline:
            told = ", ".join(f"{task} {at}" for task, at in tasks(settings, dag_id, run_id).items() if at)
            raise ServiceError(f"{dag_id} is still {found} after {timeout:.0f} s ({told}); see {_shown(settings)}")
        time.sleep(POLL_SECONDS)


def health(settings: Settings) -> dict[str, str | None]:
    """Return the status of each part (`scheduler`, `dag_processor`, …): `healthy`, `unhealthy`, None: never seen.

    Raises:
        ServiceError: the API server is away.
    """
    found = _request(settings, "GET", "/api/v2/monitor/health")
    return {part: told.get("status") for part, told in found.items()}


def import_errors(settings: Settings) -> list[str]:
    """Return, for each DAG file that can't be read, its name and the last line of why. Raises as `trigger`."""
    found = _call(settings, "GET", "/importErrors")["import_errors"]
    return [f"{each['filename']}: {each['stack_trace'].strip().splitlines()[-1]}" for each in found]


def answers(settings: Settings) -> bool:
    """Tell whether the API server answers."""
    try:
        health(settings)
    except ServiceError:
        return False
    return True


def is_healthy(settings: Settings, part: str) -> bool:
    """Tell whether a part's heartbeat is fresh."""
    try:
        return health(settings).get(part) == "healthy"
    except ServiceError:
        return False


def knows(settings: Settings, dag_ids: Iterable[str]) -> bool:
    """Tell whether each of the DAGs was read, or a file couldn't be, which `import_errors` tells about."""
    try:
        found = {each["dag_id"] for each in _call(settings, "GET", "/dags")["dags"]}
        return found.issuperset(dag_ids) or bool(import_errors(settings))
    except ServiceError:
        return False


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"


def _call(settings: Settings, method: str, path: str, body: object = None) -> dict[str, Any]:
    known = password(settings)
    if known is None:
        raise StateError(f"there is no {password_file(settings)}: `fraud-detect up` starts Airflow and makes it")
    # Asked for each time: it costs milliseconds, and a token outlives neither a restart nor a new key.
    token = _request(settings, "POST", "/auth/token", {"username": USER, "password": known})["access_token"]
    return _request(settings, method, f"/api/v2{path}", body, {"Authorization": f"Bearer {token}"})


def _request(
    settings: Settings, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    parts = urlsplit(settings.airflow_uri)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or LOOPBACK, parts.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(
            method,
            parts.path.rstrip("/") + path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json", **(headers or {})},
        )
        response = connection.getresponse()
        status, answer = response.status, json.loads(response.read() or b"{}")
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise ServiceError(f"Airflow at {_shown(settings)} fails ({exc}); is it up? `fraud-detect status`") from exc
    finally:
        connection.close()
    if status >= http.client.BAD_REQUEST:
        told = answer.get("detail", answer) if isinstance(answer, dict) else answer
        raise ServiceError(f"Airflow at {_shown(settings)} refuses {method} {path} ({status}): {told}")
    return dict(answer)


def _shown(settings: Settings) -> str:
    return without_secrets(settings.airflow_uri)
