"""Spark's settings: what the design rests on is set, what must stay unset is unset."""

import json
import subprocess
import sys
from pathlib import Path

from fraud import bus
from fraud.settings import Settings
from spark_jobs import session

SETTINGS = Settings.load({}, home=Path("home"))
THROUGHPUT = Settings.load({}, home=Path("home"), score_profile="throughput")


def test_everything_listens_on_loopback() -> None:
    options = session.options(SETTINGS, [])
    assert options["spark.driver.bindAddress"] == options["spark.driver.host"] == "127.0.0.1"


def test_elsewhere_the_driver_is_reached_by_its_name() -> None:
    options = session.options(Settings.load({}, home=Path("home"), spark_host="stream"), [])
    assert options["spark.driver.host"] == "stream"
    assert options["spark.driver.bindAddress"] == "0.0.0.0"


def test_a_job_takes_its_share_of_a_cluster_and_all_of_a_machine() -> None:
    assert "spark.cores.max" not in session.options(SETTINGS, [])
    cluster = Settings.load({}, home=Path("home"), spark_master="spark://master:7077", spark_executors=3)
    options = session.options(cluster, [])
    assert (options["spark.cores.max"], options["spark.executor.cores"]) == ("3", "1")


def test_jars_are_files_and_scratch_lies_in_the_home() -> None:
    options = session.options(SETTINGS, [Path("/a/one.jar"), Path("/a/two.jar")])
    assert options["spark.jars"] == "/a/one.jar,/a/two.jar"
    assert Path(options["spark.local.dir"]).is_relative_to(Path("home").absolute())
    assert Path(options["spark.sql.warehouse.dir"]).is_relative_to(Path("home").absolute())


def test_a_worker_is_forked_warm_and_collects_after_its_task_only() -> None:
    code = "import gc\nfrom spark_jobs import daemon\ndaemon.preload()\nprint(gc.isenabled(), gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    enabled, frozen = done.stdout.split()
    assert enabled == "False"
    assert int(frozen) > 100_000


def test_a_slice_is_one_task_and_its_worker_warm() -> None:
    options = session.options(SETTINGS, [])
    assert options["spark.speculation"] == "false"
    assert options["spark.python.daemon.module"] == "spark_jobs.daemon"
    assert options["spark.python.worker.reuse"] == "true"
    for profile in (SETTINGS, THROUGHPUT):
        source = session.source_options(profile, "transactions", {})
        assert not {"minPartitions", "maxRecordsPerPartition", "minOffsetsPerTrigger"} & set(source)


def test_the_source_starts_where_it_is_told_and_never_skips() -> None:
    source = session.source_options(SETTINGS, "transactions", {1: 7, 0: 5})
    assert json.loads(source["startingOffsets"]) == {"transactions": {"0": 5, "1": 7}}
    assert source["failOnDataLoss"] == "true"
    assert source["kafka.isolation.level"] == "read_committed"


def test_the_sink_waits_for_all_replicas_and_takes_the_largest_answer() -> None:
    sink = session.sink_options(SETTINGS)
    assert sink["kafka.acks"] == "all"
    assert int(sink["kafka.max.request.size"]) == bus.LARGEST_ANSWER
    assert Path(sink["checkpointLocation"]) == SETTINGS.checkpoint.absolute()


def test_a_profile_is_a_trade_off() -> None:
    soon, cheap = session.profile(SETTINGS), session.profile(THROUGHPUT)
    assert soon.offsets_per_trigger < cheap.offsets_per_trigger
    assert soon.trigger is None
    assert cheap.trigger is not None
    few = Settings.load({}, max_offsets_per_trigger=500)
    assert session.profile(few).offsets_per_trigger == 500
