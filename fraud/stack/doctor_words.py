"""What `doctor` tells a person to type: `up` beside the embedded servers, Docker Compose's words beside others."""

from urllib.parse import urlsplit

from fraud.settings import Settings
from fraud.stack.ports import LOOPBACK, is_open

# Our programs' names, and the services that do their work in docker-compose.yml.
SERVICES = {
    "score": "stream",
    "archive": "archive",
    "airflow-scheduler": "scheduler",
    "airflow-dag-processor": "dag-processor",
}


def is_local(settings: Settings, field: str) -> bool:
    """Tell whether an address setting names this machine's loopback."""
    value = str(getattr(settings, field))
    if field.endswith("_port"):
        return True
    return urlsplit(value if "//" in value else f"//{value}").hostname in (LOOPBACK, "localhost")


def is_away(settings: Settings, field: str) -> bool:
    """Tell whether nobody listens; the finding about the port says so already."""
    return is_local(settings, field) and not is_open(settings.port(field))


def start(settings: Settings, program: str) -> str:
    """Return the command that starts a program."""
    if is_local(settings, "kafka_bootstrap"):
        return "`fraud-detect up`"
    return f"`docker compose up -d {SERVICES[program]}`"


def log(settings: Settings, program: str) -> str:
    """Return where a program's log is read."""
    embedded = is_local(settings, "kafka_bootstrap")
    return (
        str(settings.logs.absolute() / f"{program}.log") if embedded else f"`docker compose logs {SERVICES[program]}`"
    )


def make_buckets(settings: Settings) -> str:
    """Return the command that makes missing buckets."""
    return "`fraud-detect up`" if is_local(settings, "s3_endpoint") else "`docker compose up -d minio-init`"


def enlarge_store(settings: Settings) -> str:
    """Return what gives the online store more room."""
    if settings.store_url.startswith("lmdb"):
        return "set FRAUD_STORE_MAP_MB higher and start the jobs again"
    return "give its server more memory (Docker Compose: ONLINE_STORE_MEMORY and ONLINE_STORE_LIMIT in .env)"
