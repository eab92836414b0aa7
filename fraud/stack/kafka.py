"""Apache Kafka in one process: KRaft, broker and controller together, from plain jars."""

import base64
import subprocess
import uuid
from pathlib import Path

from fraud import bus
from fraud.errors import ServiceError
from fraud.settings import PREFIX, Settings
from fraud.stack import jars
from fraud.stack.java import java
from fraud.stack.ports import LOOPBACK, inner_ports
from fraud.stack.program import Program

HEAP = "-Xmx512m"
LOGGING = """rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1} %m%n
# What the log cleaner and the coordinators say at INFO fills a disk and tells nobody anything.
logger.coordinator.name = org.apache.kafka.coordinator
logger.coordinator.level = WARN
logger.network.name = kafka.network.RequestChannel
logger.network.level = WARN
"""


def program(settings: Settings) -> Program:
    """Describe the broker at FRAUD_KAFKA_BOOTSTRAP's port; its data live in data/kafka."""
    home = settings.data.absolute() / "kafka"
    port = settings.port("kafka_bootstrap")
    config = home / "server.properties"

    def prepare() -> None:
        jars.kafka_jars(settings)
        home.mkdir(parents=True, exist_ok=True)
        controller = inner_ports(home / "ports.json", ["controller"], avoid=[port])["controller"]
        config.write_text(_properties(home / "log", port, controller))
        (home / "log4j2.properties").write_text(LOGGING)
        _format(settings, config, home)

    return Program(
        name="kafka",
        command=[*_java(settings, home), HEAP, "kafka.Kafka", str(config)],
        address=f"{LOOPBACK}:{port}",
        ready=lambda: bus.is_ready(f"{LOOPBACK}:{port}"),
        ports=[(port, f"{PREFIX}KAFKA_BOOTSTRAP")],
        prepare=prepare,
        notice=jars.notice(settings, "kafka"),
        after=lambda: bus.ensure_topics(settings),
        stop_seconds=30,
    )


def _java(settings: Settings, home: Path) -> list[str]:
    classpath = ":".join(map(str, jars.paths(settings, "kafka")))
    options = [
        "-XX:+UseG1GC",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={home}/log4j2.properties",
    ]
    return [str(java(settings).executable), "-cp", classpath, *options]


def _properties(log: Path, port: int, controller: int) -> str:
    ones = (
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
        "offsets.topic.num.partitions",
        "transaction.state.log.num.partitions",
        "share.coordinator.state.topic.num.partitions",
    )
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log),
        # A misspelt topic must fail, not appear.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "message.max.bytes": str(bus.LARGEST_MESSAGE),
        "replica.fetch.max.bytes": str(bus.LARGEST_MESSAGE),
        "log.segment.delete.delay.ms": "1000",
        "log.message.timestamp.type": "LogAppendTime",
    }
    return "".join(f"{key}={value}\n" for key, value in {**lines, **dict.fromkeys(ones, "1")}.items())


def _format(settings: Settings, config: Path, home: Path) -> None:
    """Prepare the log directory, once: meta.properties comes last, so a broken run is repeated."""
    if (home / "log" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    command = [*_java(settings, home), "kafka.tools.StorageTool", "format", "--standalone"]
    # One word: an id may begin with a hyphen.
    command += ["--ignore-formatted", f"--cluster-id={cluster}", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ServiceError(f"Kafka's folder {home} can't be prepared: {''.join(reason)}")
