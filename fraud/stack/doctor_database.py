"""`doctor`'s look into the PostgreSQL that MLflow and Airflow keep their metadata in; it reads and changes nothing."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fraud.errors import ServiceError
from fraud.settings import Settings, without_secrets
from fraud.stack.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    from psycopg2.extensions import cursor

DATABASES = ("mlflow", "airflow")
FULL = 0.8  # of the connections that others than superusers may hold
OPEN_SECONDS = 300.0  # a transaction open for longer holds up vacuum, and whoever waits for its locks
_CONNECTIONS = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
"""
_SIZES = "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datname = ANY(%s)"
_OPEN = """
SELECT datname, pid, extract(epoch FROM now() - xact_start)::float FROM pg_stat_activity
WHERE state LIKE 'idle in transaction%%' AND now() - xact_start > %s * interval '1 second' ORDER BY xact_start
"""


def postgres(settings: Settings, longest: float = OPEN_SECONDS) -> Iterator[Finding]:
    """Look for both databases, for connections that run out and for transactions that somebody left open.

    Args:
        settings: FRAUD_DATABASE_URL names the server; its role needs `pg_monitor` and no more.
        longest: seconds that a transaction may be open and idle.

    Raises:
        ServiceError: the server is away, or refuses.
    """
    if settings.database_url is None:
        return
    import psycopg2

    url = settings.database_url.get_secret_value()
    shown = without_secrets(url)
    try:
        connection = psycopg2.connect(url, connect_timeout=5, application_name="fraud-detect doctor")
        with closing(connection), connection.cursor() as asked:
            connection.set_session(readonly=True, autocommit=True)
            yield from _sizes(asked, shown)
            yield from _connections(asked)
            yield from _open(asked, longest)
    except psycopg2.Error as exc:
        why = _without_password(" ".join(str(exc).split()), url)
        raise ServiceError(
            f"PostgreSQL at {shown} refuses ({why}); is it up, and does FRAUD_DATABASE_URL fit it? Under Docker "
            "Compose `docker compose up -d` makes its roles' passwords, and their clients', what .env says"
        ) from exc


def _sizes(asked: "cursor", shown: str) -> Iterator[Finding]:
    sizes = dict(_rows(asked, _SIZES, list(DATABASES)))
    for name in DATABASES:
        if name in sizes:
            yield ok("postgres", f"the database {name} of {shown}: {sizes[name] / (1 << 20):.0f} MB")
        else:
            yield problem(
                "postgres",
                f"the database {name} is missing at {shown}: a new volume, or an init that failed; "
                "`docker compose up -d postgres-init` makes it, empty, and a backup fills it (docs/runbook.md)",
            )


def _connections(asked: "cursor") -> Iterator[Finding]:
    ((taken, most),) = _rows(asked, _CONNECTIONS)
    told = f"{taken} of {most} connections are taken"
    if taken >= FULL * most:
        yield warning("postgres", f"{told}: raise max_connections before MLflow or Airflow is refused one")
    else:
        yield ok("postgres", told)


def _open(asked: "cursor", longest: float) -> Iterator[Finding]:
    for database, pid, seconds in _rows(asked, _OPEN, longest):
        yield warning(
            "postgres",
            f"a transaction in {database} has been open and idle for {seconds:.0f} s and holds its locks: "
            f"`SELECT pg_terminate_backend({pid})` as superuser ends it",
        )


def _rows(asked: "cursor", question: str, *values: object) -> list[tuple[Any, ...]]:
    asked.execute(question, values or None)
    return list(asked.fetchall())


def _without_password(text: str, url: str) -> str:
    secret = urlsplit(url).password
    return text.replace(secret, "…") if secret else text
