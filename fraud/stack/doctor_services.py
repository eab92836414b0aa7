"""`doctor`'s checks of Kafka, S3, MLflow, the online store and the score job."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

from fraud import bus
from fraud.errors import ServiceError
from fraud.registry.connection import MODEL
from fraud.s3 import BUCKETS, s3_client
from fraud.settings import Settings, without_secrets
from fraud.stack import doctor_words as words
from fraud.stack.finding import Finding, ok, problem, warning
from fraud.stack.jobs import is_at_work
from fraud.stack.ports import LOOPBACK
from fraud.stack.stored import is_held, opened
from fraud.store.base import Pointer, Store
from fraud.store.leases import SCORE

FULL = 0.8
ALIAS = "Production"
TRAIN = "`fraud-detect train --from DIR` makes one, `fraud-detect promote` puts it there"


def kafka(settings: Settings) -> Iterator[Finding]:
    """Compare the topics with what they should be."""
    if words.is_away(settings, "kafka_bootstrap"):
        return
    wrong = bus.topic_problems(settings)
    yield from (problem("kafka", message) for message in wrong)
    if not wrong:
        yield ok("kafka", f"{len(bus.topics(settings))} topics are there, with the settings they should have")


def s3(settings: Settings) -> Iterator[Finding]:
    """Look for the buckets."""
    from botocore.exceptions import BotoCoreError, ClientError

    if words.is_away(settings, "s3_endpoint"):
        return
    try:
        present = {bucket["Name"] for bucket in s3_client(settings).list_buckets()["Buckets"]}
    except (BotoCoreError, ClientError) as exc:
        raise ServiceError(
            f"S3 at {without_secrets(settings.s3_endpoint)} refuses ({exc}); "
            "do FRAUD_S3_ACCESS_KEY and FRAUD_S3_SECRET_KEY fit it?"
        ) from exc
    missing = [bucket for bucket in BUCKETS if bucket not in present]
    for bucket in missing:
        yield problem("s3", f"the bucket {bucket} is missing; {words.make_buckets(settings)} makes it again, empty")
    if not missing:
        yield ok("s3", f"the buckets {' and '.join(BUCKETS)} are there")


def mlflow(settings: Settings) -> Iterator[Finding]:
    """Compare who holds the alias Production with what the online store serves."""
    if words.is_away(settings, "mlflow_uri"):
        return
    version = production(settings)
    with opened(settings) as store:
        pointer = None if store is None else store.serving.pointer()
    yield serving(settings, version, pointer)


def serving(settings: Settings, version: str | None, pointer: Pointer | None) -> Finding:
    """Compare the version in Production with the model that the store serves."""
    if version is None and pointer is None:
        return problem(
            "mlflow", f"no model is in {ALIAS}, so transactions are collected and nothing is decided; {TRAIN}"
        )
    if version is None and pointer is not None:
        return problem(
            "mlflow",
            f"no version of {MODEL} holds the alias {ALIAS}, the store still serves {pointer.model_version}: "
            f"`fraud-detect promote --version {pointer.model_version}` gives it back",
        )
    if pointer is None or pointer.model_version != version:
        served = "no model" if pointer is None else f"version {pointer.model_version}"
        return problem(
            "mlflow",
            f"{ALIAS} is version {version} of {MODEL}, but the store serves {served}: is the score job running, "
            f"and what does the watcher say in {words.log(settings, SCORE)}?",
        )
    return ok("mlflow", f"version {version} of {MODEL} is in {ALIAS}, and the store serves it")


def production(settings: Settings) -> str | None:
    """Return the version that holds the alias Production, None if none does.

    MLflow's REST API answers in milliseconds what its client needs seconds to import for.

    Raises:
        ServiceError: MLflow doesn't answer as it should.
    """
    path = f"/api/2.0/mlflow/registered-models/alias?name={quote(MODEL)}&alias={ALIAS}"
    parts = urlsplit(settings.mlflow_uri)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or LOOPBACK, parts.port, timeout=10)
    try:
        connection.request("GET", parts.path.rstrip("/") + path)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise ServiceError(
            f"MLflow at {without_secrets(settings.mlflow_uri)} fails ({exc}); does FRAUD_MLFLOW_URI name it?"
        ) from exc
    finally:
        connection.close()
    if response.status == http.client.OK:
        return str(answer["model_version"]["version"])
    if answer.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return None
    shown = without_secrets(settings.mlflow_uri)
    raise ServiceError(f"MLflow at {shown} answers {response.status}: {answer.get('message', '')}")


def store(settings: Settings, now: int) -> Iterator[Finding]:
    """Look at the store's headroom and at who holds its leases; `now` in ms."""
    with opened(settings) as found:
        if found is None:
            yield ok("store", "there is none yet; the score job or `fraud-detect backfill` makes it")
            return
        for part in found.headroom():
            if part.limit is None:
                yield ok("store", f"{part.part}: {part.used >> 20} MB")
            elif part.used >= FULL * part.limit:
                yield warning(
                    "store",
                    f"{part.part} fill {part.used >> 20} of {part.limit >> 20} MB; {words.enlarge_store(settings)}, "
                    "before it is full and scoring stops",
                )
            else:
                yield ok("store", f"{part.part}: {part.used >> 20} of {part.limit >> 20} MB")
        for name, lease in found.histories.leases().items():
            who = f"pid {lease.pid} on {lease.host}"
            if is_held(lease, now):
                yield ok("store", f"the lease {name} is with {who}, epoch {lease.epoch}")
            else:
                yield warning("store", f"the lease {name} was with {who}, which is gone; the next start takes it")


def positions(settings: Settings) -> Iterator[Finding]:
    """Compare the store's positions with the topic: do they continue each other, and how far behind is it."""
    if words.is_away(settings, "kafka_bootstrap"):
        return
    with opened(settings) as found:
        if found is not None and found.histories.positions():
            yield from _lag(settings, found)


def _lag(settings: Settings, found: Store) -> Iterator[Finding]:
    topic = bus.TRANSACTIONS
    topic_id = bus.topic_id(settings.kafka_bootstrap, topic)
    ends = bus.end_offsets(settings.kafka_bootstrap, topic)
    known = {key.partition: at for key, at in found.histories.positions().items() if key.topic_id == topic_id}
    start_over = "make the store anew with `fraud-detect rebuild`"
    if set(known) != set(ends):
        told = "is another topic of that name" if not known else f"has {len(ends)} partitions, the store {len(known)}"
        yield problem("positions", f"{topic} {told}: its users' histories don't belong to it; {start_over}")
        return
    ahead = [part for part, at in known.items() if at > ends[part]]
    if ahead:
        part = ahead[0]
        yield problem(
            "positions",
            f"{topic}, partition {part} ends at {ends[part]}, the store has decided up to {known[part]}: the topic "
            f"was emptied or is an older copy; {start_over}",
        )
    else:
        yield ok("positions", f"{sum(ends.values()) - sum(known.values()):,} transactions are waiting to be decided")


def score(settings: Settings, now: int) -> Iterator[Finding]:
    """Tell whether the score job runs; `now` in ms."""
    if is_at_work(settings, SCORE, settings.spark_ui_port, now):
        with opened(settings) as found:
            lease = None if found is None else found.histories.leases().get(SCORE)
        yield ok("score", f"the job runs, pid {lease.pid if lease else '?'}")
    else:
        yield problem(
            "score",
            "no score job runs: nobody living holds the store's lease `score`, or its Spark UI doesn't answer; "
            f"{words.start(settings, SCORE)} starts it, its log is {words.log(settings, SCORE)}",
        )
