"""Which programs make up the platform on one machine."""

from pathlib import Path
from urllib.parse import urlsplit

from fraud.errors import ConfigError
from fraud.settings import PREFIX, Settings, without_secrets
from fraud.stack import airflow, jobs, kafka, mlflow, seaweed
from fraud.stack.ports import LOOPBACK
from fraud.stack.program import Program

ADDRESSES = ("kafka_bootstrap", "s3_endpoint", "mlflow_uri")


def servers(settings: Settings, sockets: Path) -> list[Program]:
    """Describe S3, Kafka and MLflow; `sockets` is a folder with a short path.

    Raises:
        ConfigError: an address isn't this machine's loopback, where the embedded servers listen.
        ServiceError: Kafka's jars can't be fetched.
    """
    for field in ADDRESSES:
        require_loopback(settings, field)
    return [seaweed.program(settings, sockets), kafka.program(settings), mlflow.program(settings)]


def require_loopback(settings: Settings, field: str) -> None:
    """Raise ConfigError unless an address setting names this machine's loopback, where the embedded servers listen."""
    value = str(getattr(settings, field))
    host = urlsplit(value if "//" in value else f"//{value}").hostname
    if host not in (LOOPBACK, "localhost") or "," in value:
        raise ConfigError(
            f"{PREFIX}{field.upper()}={without_secrets(value)} isn't on this machine's loopback: the embedded "
            f"servers listen on {LOOPBACK} only; unset it for them, or start what they replace yourself"
        )


def platform(settings: Settings, sockets: Path) -> list[Program]:
    """Describe the servers, the score job, the archive job and Airflow; raises as `servers`."""
    require_loopback(settings, "airflow_uri")
    return [*servers(settings, sockets), jobs.score(settings), jobs.archive(settings), *airflow.programs(settings)]
