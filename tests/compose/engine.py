"""The shipped stack, brought up by Docker Compose as a user would, and spoken to from outside."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any

from fraud.settings import Settings
from fraud.stack.airflow.keys import USER
from tests.servers import REPOSITORY, wait_for

MINUTES = 60.0
UP_SECONDS = 15 * MINUTES  # images are built in it, the first time
ENV = REPOSITORY / ".env"
FLOWER = ("docker", "compose", "--profile", "flower")
COMPOSE = (*FLOWER, "--profile", "cluster")


def run(*words: str, check: bool = True, seconds: float = 10 * MINUTES, stdin: str | None = None) -> str:
    """Run a command in the clone and return what it prints; its whole output is in the failure's message."""
    done = subprocess.run(
        words, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds, check=False, input=stdin or ""
    )
    assert done.returncode == 0 or not check, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def compose(*words: str, check: bool = True, seconds: float = 10 * MINUTES) -> str:
    """Run `docker compose` with all profiles, so that it sees every container."""
    return run(*COMPOSE, *words, check=check, seconds=seconds)


def cli(*words: str, seconds: float = 10 * MINUTES) -> str:
    """Run a one-off command inside the stack."""
    return run("docker", "compose", "run", "--rm", "--no-deps", "-T", "cli", *words, seconds=seconds)


def require() -> None:
    """Fail, saying what is missing, where no engine or no Compose is."""
    for words in (("docker", "info"), ("docker", "compose", "version")):
        try:
            run(*words, seconds=60)
        except (OSError, AssertionError) as exc:
            raise AssertionError(
                f"`make test-compose` needs a Docker engine and Compose, and `{' '.join(words)}` fails: {exc}"
            ) from None


def states() -> dict[str, dict[str, Any]]:
    """Return each container's line of `docker compose ps`, by its service."""
    lines = compose("ps", "--all", "--format", "json").splitlines()
    return {found["Service"]: found for found in map(json.loads, lines)}


def is_healthy(name: str) -> bool:
    """Tell whether a service's health check passes."""
    found = states().get(name)
    return found is not None and found["State"] == "running" and found["Health"] == "healthy"


def wait_healthy(*names: str, seconds: float = 5 * MINUTES) -> None:
    """Return when the services' health checks pass."""

    def healthy() -> bool:
        found = states()
        return all(found.get(name, {}).get("Health") == "healthy" for name in names)

    wait_for(f"{', '.join(names)} are healthy", healthy, seconds, every=2)


def kill(name: str) -> None:
    """kill -9 a service's container; Compose doesn't bring back what a person killed."""
    run("docker", "kill", container(name))


def crash(name: str) -> None:
    """kill -9 what runs in the container, from inside the machine: the restart policy brings it back."""
    pid = int(run("docker", "inspect", "--format", "{{.State.Pid}}", container(name)))
    os.kill(pid, 9)


def start(name: str) -> None:
    """Start a service again."""
    compose("start", name)


def container(name: str) -> str:
    """Return the id of a service's container."""
    return compose("ps", "--all", "--quiet", name).strip()


def address(name: str, port: int) -> str:
    """Return host:port under which a service's port is published."""
    return run(*COMPOSE, "port", name, str(port)).strip()


def secrets() -> dict[str, str]:
    """Return what `make env` made."""
    lines = (line.partition("=") for line in ENV.read_text(encoding="utf-8").splitlines() if line[:1].isalpha())
    return {name: value for name, _, value in lines}


def settings(home: Any) -> Settings:
    """Return the settings of a client on the host: published ports only."""
    known = secrets()
    return Settings.load(
        {},
        home=home,
        kafka_bootstrap=address("kafka", 19092),
        topic_partitions=8,
        s3_endpoint=f"http://{address('minio', 9000)}",
        s3_access_key="doctor",
        s3_secret_key=known["S3_DOCTOR_SECRET"],
        mlflow_uri=f"http://{address('mlflow', 5000)}",
        airflow_uri=f"http://{address('api-server', 8080)}",
        airflow_password=known["AIRFLOW_ADMIN_PASSWORD"],
    )


def request(url: str, body: object = None, headers: Iterable[tuple[str, str]] = ()) -> Any:
    """Return an HTTP answer's JSON; POST where there is a body."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json", **dict(headers)})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as exc:
        raise AssertionError(f"{url}: {exc.code} {exc.read()[:500]!r}") from exc


def memory() -> dict[str, float]:
    """Return the megabytes that each running container uses, by its service."""
    names = {found["Name"]: service for service, found in states().items()}
    lines = run("docker", "stats", "--no-stream", "--format", "{{json .}}").splitlines()
    factor = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
    found = {}
    for line in map(json.loads, lines):
        if line["Name"] in names:
            used = line["MemUsage"].split("/")[0].strip()
            found[names[line["Name"]]] = float(used[:-3]) * factor[used[-3:]] if used[-3:] in factor else 0.0
    return found


def now() -> float:
    """Return a clock for durations."""
    return time.monotonic()


LOGIN = USER
