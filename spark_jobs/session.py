"""The jobs' Spark: every setting with its reason, and its JVM's life.

Figures: two cores, Kafka and a generator on the same machine; each is what the setting saves or buys.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from fraud import bus
from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.stack.ports import LOOPBACK
from spark_jobs.stop import held_back

EVERYWHERE = "0.0.0.0"  # noqa: S104
# Rows pass through the heap and nothing stays: G1's concurrent marking takes processor time for nothing.
JVM = "-XX:+UseParallelGC"


@dataclass(frozen=True)
class Profile:
    """A trade-off between answering soon and answering cheaply."""

    offsets_per_trigger: int
    trigger: str | None  # a processing-time interval; None: the next micro-batch follows at once
    fetch_wait_ms: int


def profile(settings: Settings) -> Profile:
    """Return what `score_profile` means in figures."""
    if settings.score_profile == "throughput":
        # Large batches spread the fixed cost of a micro-batch, and a user's history is written once for all its
        # rows of a slice (docs/performance.md has the figures). Half a second lets them fill.
        return Profile(settings.max_offsets_per_trigger, "500 milliseconds", 100)
    # A batch after the last one's end; under a backlog at most 20,000 rows, so that a fresh transaction
    # behind it waits for half a second only.
    return Profile(min(settings.max_offsets_per_trigger, 20_000), None, 10)


def options(settings: Settings, jars: list[Path]) -> dict[str, str]:
    """Return Spark's configuration."""
    scratch = settings.data.absolute() / "scratch"
    return {
        "spark.app.name": "fraud-score",
        # Two cores; four tries a task: with plain local[2] one killed Python worker ends the query.
        "spark.master": settings.spark_master,
        # Files, so nothing is resolved or downloaded at start.
        "spark.jars": ",".join(str(jar) for jar in jars),
        "spark.driver.memory": settings.spark_driver_memory,
        # Everything listens on loopback, the UI and the block manager ask for no password; elsewhere (a container,
        # a cluster) the network around them decides who reaches them.
        "spark.driver.bindAddress": listens_on(settings),
        "spark.driver.host": settings.spark_host,
        "spark.ui.port": str(settings.spark_ui_port),
        # A taken port is the next one up; the job prints which.
        "spark.port.maxRetries": "16",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        # Keep what a long run leaves behind small: the UI's and the status store's memory.
        "spark.ui.retainedJobs": "50",
        "spark.ui.retainedStages": "50",
        "spark.ui.retainedTasks": "500",
        "spark.sql.ui.retainedExecutions": "20",
        "spark.sql.streaming.numRecentProgressUpdates": "20",
        # Scratch inside our home, where `down --wipe` finds it; nothing uses a warehouse or a catalog.
        "spark.local.dir": str(scratch / "local"),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        # Python workers: forked warm from our daemon (26 ms a task saved), reused between micro-batches,
        # reached through a socket file (TCP's delayed acknowledgements cost 30 ms a batch).
        "spark.python.daemon.module": "spark_jobs.daemon",
        "spark.python.worker.reuse": "true",
        "spark.python.unix.domain.socket.enabled": "true",
        # Two slices of the same rows at once would meet at the fence; a slice is one task's.
        "spark.speculation": "false",
        # Arrow batches to Python: fewer crossings, still bounded where messages are large.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(64 << 20),
        # The default forks processes for every file it writes: 135 against 54 ms a trigger.
        "spark.sql.streaming.checkpointFileManagerClass": (
            "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
        ),
        # There is no shuffle to adapt or to split; planning for one costs milliseconds a batch.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        # No state and no watermark: an empty batch has nothing to do.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        # Let a batch in flight end before `stop` gives up on it.
        "spark.sql.streaming.stopTimeout": "5s",
        # `/metrics/prometheus` on the UI's port, the query's figures among them.
        "spark.sql.streaming.metricsEnabled": "true",
        "spark.metrics.conf.*.sink.prometheusServlet.class": ("org.apache.spark.metrics.sink.PrometheusServlet"),
        "spark.metrics.conf.*.sink.prometheusServlet.path": "/metrics/prometheus",
        "spark.sql.session.timeZone": "UTC",
        # A worker runs the driver's code, installed or not, with one thread: cores are Spark's to share out.
        "spark.executorEnv.PYTHONPATH": os.pathsep.join(_code()),
        "spark.executorEnv.OMP_NUM_THREADS": "1",
        "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
        **_cluster(settings),
    }


def _cluster(settings: Settings) -> dict[str, str]:
    """Return a job's share of a cluster: the first application would take all of a standalone one's cores."""
    if settings.spark_master.startswith("local"):
        return {}
    executors, cores = settings.spark_executors, settings.spark_executor_cores
    return {
        "spark.executor.instances": str(executors),
        "spark.executor.cores": str(cores),
        "spark.cores.max": str(executors * cores),
        "spark.executor.memory": settings.spark_executor_memory,
        "spark.executor.extraJavaOptions": JVM,
    }


def listens_on(settings: Settings) -> str:
    """Return the address on which the driver listens."""
    return LOOPBACK if settings.spark_host in (LOOPBACK, "localhost") else EVERYWHERE


def source_options(settings: Settings, topic: str, starting: Mapping[int, int]) -> dict[str, str]:
    """Return the Kafka source's options; `minPartitions` and its like stay unset: one task is one partition."""
    chosen = profile(settings)
    return {
        "kafka.bootstrap.servers": settings.kafka_bootstrap,
        "subscribe": topic,
        "startingOffsets": json.dumps({topic: {str(p): offset for p, offset in sorted(starting.items())}}),
        # A hole in the topic stops the job; a silent skip would be a history with a hole.
        "failOnDataLoss": "true",
        # What a producer's transaction took back never happened.
        "kafka.isolation.level": "read_committed",
        "maxOffsetsPerTrigger": str(chosen.offsets_per_trigger),
        # The broker answers an empty fetch after this long; its default of 500 ms is a batch's whole time.
        "kafka.fetch.max.wait.ms": str(chosen.fetch_wait_ms),
        # A fetch takes what a task reads: fewer requests than with the defaults' megabyte and 500 records.
        "kafka.max.partition.fetch.bytes": str(4 << 20),
        "kafka.max.poll.records": "20000",
    }


def sink_options(settings: Settings) -> dict[str, str]:
    """Return the Kafka sink's and the query's options."""
    return {
        "kafka.bootstrap.servers": settings.kafka_bootstrap,
        "kafka.acks": "all",
        # A batch is flushed at its end anyway; waiting for more costs 25 ms.
        "kafka.linger.ms": "0",
        "kafka.batch.size": str(128 << 10),
        # What the topics take: the largest rejection fits.
        "kafka.max.request.size": str(bus.LARGEST_ANSWER),
        "checkpointLocation": str(settings.checkpoint.absolute()),
        # Writing two log files in every batch costs 58 ms; a restart repeats about a second instead, and
        # the outbox answers it (spark_jobs/checkpoint.py).
        "asyncProgressTrackingEnabled": "true",
        "asyncProgressTrackingCheckpointIntervalMs": "1000",
    }


class Session:
    """A SparkSession whose JVM ends with it."""

    def __init__(self, settings: Settings, changes: Mapping[str, str] | None = None) -> None:
        """Start the JVM, in a session of its own: a Ctrl-C is for the driver, which ends it in order.

        `changes` replace options of the score job.

        Raises:
            ServiceError: the JVM doesn't start; its own words stand above, on stderr.
        """
        with held_back():
            from py4j.protocol import Py4JError
            from pyspark import SparkConf, SparkContext
            from pyspark.errors import PySparkException
            from pyspark.java_gateway import launch_gateway
            from pyspark.sql import SparkSession

        from fraud.stack import classes
        from fraud.stack.jars import spark_jars
        from fraud.stack.java import java

        home = java(settings)
        archive = {"spark.driver.extraJavaOptions": f"{JVM} {classes.option(settings, home)}"}
        chosen = {**options(settings, spark_jars(settings)), **archive, **(changes or {})}
        conf = SparkConf(loadDefaults=False).setAll(list(chosen.items()))
        _environment(home.path, listens_on(settings))
        interrupted = signal.getsignal(signal.SIGINT)
        self._gateway: Any = None
        try:
            with held_back():  # a launch that is interrupted would leave a JVM that nobody knows
                self._gateway = launch_gateway(conf=conf, popen_kwargs={"start_new_session": True})  # type: ignore[no-untyped-call]
            context = SparkContext(conf=conf, gateway=self._gateway)
            self.spark: SparkSession = SparkSession(context)
        except BaseException as exc:
            if self._gateway is not None:
                self._gateway.proc.kill()
            if isinstance(exc, (PySparkException, Py4JError)):
                raise ServiceError(_why_not(settings, exc)) from exc
            raise
        finally:
            # SparkContext takes SIGINT for itself; ending in order is the job's.
            signal.signal(signal.SIGINT, interrupted)
        self.ui = context.uiWebUrl

    def close(self, timeout: float = 4.0) -> None:
        """Stop Spark and its JVM; kill it if either takes longer than `timeout` seconds."""
        process: Any = self._gateway.proc
        # In a thread: a JVM that has stopped answering must not keep the driver.
        ending = threading.Thread(target=self._end, name="end", daemon=True)
        ending.start()
        ending.join(timeout)
        process.stdin.close()  # the JVM ends where its driver's pipe does
        try:
            process.wait(timeout)
        except TimeoutExpired:
            process.kill()
            process.wait()

    def _end(self) -> None:
        # Whatever stopping raises: the JVM may be gone already, and it goes now in any case.
        with suppress(Exception):
            self.spark.stop()
        with suppress(Exception):
            self._gateway.shutdown()


def _why_not(settings: Settings, exc: Exception) -> str:
    """Say why Spark doesn't start; a cluster that doesn't answer looks like a session that somebody stopped."""
    if settings.spark_master.startswith("local"):
        return f"Spark doesn't start: {exc}"
    said = " ".join(str(exc).split())[:200]
    return (
        f"Spark doesn't start on {settings.spark_master}: is that its master's address, does it have free workers, and "
        f"do they reach this driver by the name {settings.spark_host} (FRAUD_SPARK_HOST)? Spark says: {said}"
    )


def _code() -> list[str]:
    """Return the folder that holds our packages."""
    return [str(Path(__file__).resolve().parent.parent)]


def _environment(java_home: Path, address: str) -> None:
    """Set what the launcher reads from the environment and nowhere else."""
    os.environ["JAVA_HOME"] = str(java_home)
    # Else workers take the system's `python3`.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    # Where the UI listens; else Spark asks for the machine's name, and warns or fails where it can't be resolved.
    os.environ["SPARK_LOCAL_IP"] = address
    # Another Spark on this machine must not lend its scripts or its configuration.
    os.environ.pop("SPARK_HOME", None)
    os.environ.pop("SPARK_CONF_DIR", None)
