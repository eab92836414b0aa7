"""The platform's settings: one flat field per environment variable, read once in ``main``.

`.env.example` lists the same names; a test compares the two.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_serializer
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraud.errors import ConfigError

PREFIX = "FRAUD_"
# Settings whose value may hold a user's name and password.
ADDRESSES = ("kafka_bootstrap", "s3_endpoint", "mlflow_uri", "airflow_uri", "store_url")
_URL = re.compile(r"([^/?#]*//)(?:[^/?#]*@)?([^/?#@]*(?:/[^?#@]*)?)(?:[?#][^@]*)?")


class Settings(BaseSettings):
    """What differs between a laptop, Compose and a cluster: addresses, limits, trade-offs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False)

    home: Path = Field(Path(".run"), description="Where data/, logs/, cache/ and demo/ live.")

    kafka_bootstrap: str = Field(
        "127.0.0.1:9092", description="Kafka's address; `up` starts the embedded broker on its port."
    )
    topic_partitions: int = Field(2, ge=1, description="Partitions of `transactions` when `up` creates it.")
    dlq_retention_hours: int = Field(168, ge=1, description="How long `transactions_dlq` keeps a message.")
    dlq_retention_mb: int = Field(1024, ge=1, description="How much `transactions_dlq` keeps per partition.")
    predictions_retention_hours: int = Field(168, ge=1, description="How long predictions are kept.")
    predictions_retention_mb: int = Field(4096, ge=1, description="How much of them is kept per partition.")

    s3_endpoint: str = Field("http://127.0.0.1:9000", description="The S3 server.")
    s3_region: str = Field("us-east-1", description="The S3 region.")
    s3_access_key: SecretStr | None = Field(None, description="Empty: the embedded server's own key.")
    s3_secret_key: SecretStr | None = Field(None, description="Empty: the embedded server's own secret.")

    lake_uri: str = Field("s3://lake", description="Where the lake's Delta tables are: s3://bucket or a folder.")
    archive_seconds: float = Field(5.0, ge=0, description="How often the archive job writes a batch.")
    archive_max_offsets: int = Field(100_000, ge=1, description="The most that one of its batches takes.")
    label_parking_days: float = Field(
        7.0, gt=0, description="How long a label waits for its transaction before it is rejected."
    )
    cut_days: float = Field(90.0, gt=0, description="How long a training set can be rebuilt; then its files may go.")

    mlflow_uri: str = Field("http://127.0.0.1:5000", description="The MLflow tracking and registry server.")
    watch_seconds: float = Field(1.0, gt=0, description="How often the watcher looks at the registry.")

    max_champion_age_days: float = Field(
        30.0, gt=0, description="A champion older than this gives way to a challenger that is as good."
    )
    min_judged_frauds: int = Field(100, ge=1, description="Fewer frauds than this decide nothing.")

    airflow_uri: str = Field("http://127.0.0.1:8080", description="Airflow's address; `up` starts it on its port.")
    airflow_password: SecretStr | None = Field(
        None, description="Its user `admin`'s password. Empty: the embedded Airflow's own."
    )

    database_url: SecretStr | None = Field(
        None, description="PostgreSQL that `doctor` looks into, postgresql://user:password@host/db; empty: none."
    )

    store_url: str = Field(
        "lmdb:", description="The online store: `lmdb:` (under home), `lmdb:/path` or `redis://host:port/db`."
    )
    store_map_mb: int = Field(
        4096,
        ge=16,
        le=1 << 24,
        description="LMDB's map size, MB, of each partition's histories, of profiles, of models; warns at 80 %.",
    )
    store_durability: Literal["process", "disk"] = Field(
        "process",
        description="`process` survives a kill -9; `disk` survives a power cut too, and waits for the disk.",
    )

    spark_master: str = Field("local[2,4]", description="Spark's master; two cores, four tries a task.")
    spark_host: str = Field(
        "127.0.0.1",
        description="The jobs' name for a cluster's workers; unless it is loopback, they listen everywhere.",
    )
    spark_ui_port: int = Field(4040, ge=0, le=65535, description="The Spark UI of the score job.")
    archive_ui_port: int = Field(4041, ge=0, le=65535, description="The Spark UI of the archive job.")
    spark_driver_memory: str = Field("1g", description="The JVM's heap.")
    spark_executors: int = Field(2, ge=1, description="How many executors each job takes of a cluster.")
    spark_executor_cores: int = Field(1, ge=1, description="An executor's cores.")
    spark_executor_memory: str = Field("640m", description="An executor's heap; Python comes on top, 0.5 GB.")
    score_profile: Literal["latency", "throughput"] = Field(
        "latency", description="Micro-batches: small and soon, or large and cheap."
    )
    max_offsets_per_trigger: int = Field(120_000, ge=1, description="The most that one micro-batch takes.")
    max_age_days: float | None = Field(
        7.0,
        gt=0,
        description="Transactions older than this at the broker are refused; empty: never (replays).",
    )
    java_home: Path | None = Field(None, description="A Java 17 or 21; empty: the machine's, else a wheel's.")

    @classmethod
    def load(cls, environ: Mapping[str, str], **overrides: object) -> "Settings":
        """Read the settings from `environ`; an unknown ``FRAUD_`` name or a bad value is an error.

        Raises:
            ConfigError: the name or the value, and what would be right.

        >>> Settings.load({"FRAUD_TOPIC_PARTITIONS": "4"}).topic_partitions
        4
        """
        values: dict[str, object] = {}
        for name, value in environ.items():
            if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
                continue
            field = name.removeprefix(PREFIX).lower()
            if field not in cls.model_fields:
                near = difflib.get_close_matches(field, cls.model_fields, n=1)
                hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
                raise ConfigError(f"{name} is not a setting{hint}")
            if value != "":
                values[field] = value
            elif field == "max_age_days":
                values[field] = None
        values.update(overrides)
        try:
            return cls.model_validate(values)
        except ValidationError as exc:
            first = exc.errors()[0]
            field = str(first["loc"][0]) if first["loc"] else "?"
            raise ConfigError(f"{PREFIX}{field.upper()}={first.get('input')!r} is refused: {first['msg']}") from exc

    def environment(self) -> dict[str, str]:
        """Return the variables that give a child process, whatever its folder, exactly these settings.

        Every field is among them, so that none is taken from elsewhere; secrets are in plain text.

        >>> Settings.load(Settings.load({}, max_age_days=None).environment()).max_age_days is None
        True
        """
        values: dict[str, object] = {name: getattr(self, name) for name in type(self).model_fields}
        values["home"] = self.home.absolute()
        values["java_home"] = None if self.java_home is None else self.java_home.absolute()
        scheme, _, rest = self.store_url.partition(":")
        if scheme == "lmdb" and rest:
            values["store_url"] = f"lmdb:{Path(rest).absolute()}"
        return {f"{PREFIX}{name.upper()}": _text(value) for name, value in values.items()}

    @classmethod
    def settings_customise_sources(cls, _, init_settings, **__):  # type: ignore[no-untyped-def,override]
        """Take values from the caller only: `load` is the one place that reads an environment."""
        return (init_settings,)

    @field_serializer(*ADDRESSES)
    def _shown(self, value: str) -> str:
        return without_secrets(value)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Give what `repr` and `str` show: addresses without their passwords."""
        for name, value in super().__repr_args__():
            yield name, without_secrets(value) if name in ADDRESSES else value

    def make_home(self) -> None:
        """Make the home if it isn't there, for its owner alone: it holds payments. One that exists stays as it is."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def data(self) -> Path:
        """What must survive: the broker's log, the store, MLflow's database."""
        return self.home / "data"

    @property
    def logs(self) -> Path:
        """One log per server, rotated."""
        return self.home / "logs"

    @property
    def cache(self) -> Path:
        """What can be fetched or built again: jars, unpacked Java."""
        return self.home / "cache"

    @property
    def checkpoint(self) -> Path:
        """Spark's checkpoint of the query `score`."""
        return self.data / "checkpoints" / "score"

    def port(self, field: str) -> int:
        """Return the port in an address setting, e.g. ``port("kafka_bootstrap")``.

        >>> Settings.load({}).port("mlflow_uri")
        5000
        """
        value = str(getattr(self, field))
        first = value.split(",")[0]
        try:
            port = urlsplit(first if "//" in first else f"//{first}").port
        except ValueError:  # no number, no port's number, or a bracket too few
            port = None
        if port is None:
            raise ConfigError(f"{PREFIX}{field.upper()}={without_secrets(value)!r} names no port; write host:port")
        return port


def without_secrets(address: str) -> str:
    """Return an address as it may be shown: no user, no password, no query, which may hold one too.

    >>> without_secrets("rediss://user:secret@cache:6380/1?password=secret")
    'rediss://cache:6380/1'
    >>> without_secrets("lmdb:/srv/store"), without_secrets("redis://:half/other@cache")
    ('lmdb:/srv/store', 'redis:…')
    """
    if address.startswith("lmdb:") or not {"@", "?", "#"} & set(address):
        return address
    found = _URL.fullmatch(address)
    # Where the parts can't be told apart, any of them may be the password's.
    return f"{found[1]}{found[2]}" if found else f"{address.partition(':')[0]}:…"


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


# Read by others than the settings: the DAGs' command, the tests' folder of real input, and the mark by
# which a stack's processes are known (fraud.stack.processes).
OTHER_VARIABLES = frozenset({"FRAUD_COMMAND", "FRAUD_TEST_DATA", "FRAUD_STACK"})
