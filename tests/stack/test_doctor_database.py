"""postgres/init.sh and doctor's look into the database, on a real PostgreSQL."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.stack.doctor_database import postgres
from fraud.stack.finding import Finding
from tests import postgres_server
from tests.servers import REPOSITORY

pytestmark = pytest.mark.server

SECRETS = {f"POSTGRES_{name}_PASSWORD": f"{name.lower()}-secret" for name in ("MLFLOW", "AIRFLOW", "DOCTOR")}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that knows nothing of ours; yields its superuser's URL."""
    # Not below pytest's folder, which is its user's alone: the server runs as another.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with postgres_server.running(Path(folder)) as url:
            yield url


def connection(url: str) -> Any:
    found = psycopg2.connect(url)
    found.autocommit = True
    return closing(found)


def as_role(url: str, name: str, database: str, password: str | None = None) -> str:
    known = password or SECRETS[f"POSTGRES_{name.upper()}_PASSWORD"]
    return f"postgresql://{name}:{known}@{urlsplit(url).hostname}:{urlsplit(url).port}/{database}"


def initialised(url: str, **changes: str) -> str:
    """Run the init as Compose does; return what it says."""
    parts = urlsplit(url)
    done = subprocess.run(
        [str(REPOSITORY / "postgres" / "init.sh")],
        env={
            "PATH": os.pathsep.join([str(Path(postgres_server.binary("psql")).parent), os.environ["PATH"]]),
            "PGHOST": str(parts.hostname),
            "PGPORT": str(parts.port),
            "PGUSER": str(parts.username),
            "PGPASSWORD": str(parts.password),
            **SECRETS,
            **changes,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def looked(url: str, **named: float) -> list[Finding]:
    return list(postgres(Settings.load({}, database_url=url), **named))


def test_without_a_database_nothing_is_looked_for() -> None:
    assert list(postgres(Settings.load({}))) == []


def test_missing_databases_are_problems_until_the_init_has_made_them(server: str) -> None:
    before = looked(server)
    assert [(each.level, each.message.split(" at ")[0]) for each in before if each.level == "problem"] == [
        ("problem", "the database mlflow is missing"),
        ("problem", "the database airflow is missing"),
    ]
    said = initialised(server)
    assert initialised(server) == said, "a second time changes nothing"
    found = looked(as_role(server, "doctor", "postgres"))
    assert [each.level for each in found] == ["ok"] * 3
    assert found[2].message == "1 of 17 connections are taken"
    assert "secret" not in str(found)


def test_each_role_reaches_its_own_database_and_no_other(server: str) -> None:
    initialised(server)
    for name, other in (("mlflow", "airflow"), ("airflow", "mlflow")):
        with connection(as_role(server, name, name)) as own, own.cursor() as asked:
            asked.execute("CREATE TABLE public.kept (n int)")
            asked.execute("DROP TABLE public.kept")
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            psycopg2.connect(as_role(server, name, other))
        with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
            psycopg2.connect(as_role(server, "doctor", name))


def test_a_password_becomes_what_env_says_whatever_is_in_it(server: str) -> None:
    new = 'it\'s "new"; \\ $HOME'
    initialised(server, POSTGRES_AIRFLOW_PASSWORD=new)
    parts = urlsplit(server)
    psycopg2.connect(host=parts.hostname, port=parts.port, user="airflow", password=new, dbname="airflow").close()
    initialised(server)
    psycopg2.connect(as_role(server, "airflow", "airflow")).close()


def test_a_transaction_that_somebody_left_open_is_a_warning(server: str) -> None:
    initialised(server)
    with closing(psycopg2.connect(as_role(server, "airflow", "airflow"))) as left, left.cursor() as asked:
        asked.execute("SELECT 1")
        pid = left.info.backend_pid
        found = [each for each in looked(as_role(server, "doctor", "postgres"), longest=0.0) if each.level != "ok"]
        assert [each.level for each in found] == ["warning"]
        assert found[0].message.startswith("a transaction in airflow has been open and idle for ")
        assert f"pg_terminate_backend({pid})" in found[0].message
    assert [each.level for each in looked(as_role(server, "doctor", "postgres"))] == ["ok"] * 3


def test_connections_that_run_out_are_a_warning(server: str) -> None:
    initialised(server)
    held = [psycopg2.connect(as_role(server, "airflow", "airflow")) for _ in range(13)]
    try:
        (found,) = (each for each in looked(as_role(server, "doctor", "postgres")) if each.level != "ok")
        assert found.message.startswith("14 of 17 connections are taken: raise max_connections")
    finally:
        for each in held:
            each.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "not-it"}, 'password authentication failed for user "doctor"'),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ],
)
def test_a_refusal_says_why_and_shows_no_password(server: str, wrong: dict[str, str], words: str) -> None:
    initialised(server)
    url = as_role(server, "doctor", wrong.get("database", "postgres"), wrong.get("password"))
    with pytest.raises(ServiceError, match="`docker compose up -d` makes") as refused:
        looked(url)
    assert words in str(refused.value)
    assert "not-it" not in str(refused.value)
    assert "doctor-secret" not in str(refused.value)


def test_a_server_that_is_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ServiceError, match=r"PostgreSQL at postgresql://127\.0\.0\.1:1/db refuses .*Connection refused"
    ):
        looked("postgresql://doctor:hush@127.0.0.1:1/db")
