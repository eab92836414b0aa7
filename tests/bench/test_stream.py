"""The benchmark's arithmetic, and a small run of the whole."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fraud.bench.latency import Latencies
from fraud.bench.processes import PeakMemory, tree, usage
from fraud.bench.stream import Plan, summary
from tests import servers
from tests.bench.command import measured


def test_figures_are_medians_with_their_range() -> None:
    rows = [{"p50": 3.0}, {"p50": 1.0}, {"p50": 2.0}]
    assert summary(rows) == {"p50": 2.0, "p50_range": [1.0, 3.0]}
    assert summary(rows[:1]) == {"p50": 3.0}


def test_percentiles_of_nothing_are_no_number() -> None:
    assert np.isnan(Latencies(np.empty(0, np.int64), 3).percentiles()["p50"])


def test_a_plan_counts_what_it_sends() -> None:
    assert Plan(events=30, rates=(50, 100), seconds=2).messages == 30 + 30 + 30 * 100 + (50 + 100) * (2 + 5)
    assert Plan(events=30, rates=()).messages == 30 + 30


def test_a_trees_processor_time_includes_its_children() -> None:
    burn = "import time\nt=time.process_time()\nwhile time.process_time()-t<0.3: pass\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess,sys\nsubprocess.run([sys.executable,'-c',{burn!r}])\ninput()"],
        stdin=subprocess.PIPE,
    )
    try:
        servers.wait_for("the child's time is counted", lambda: usage(tree([parent.pid])).cpu_seconds >= 0.3, 20)
        assert usage(tree([parent.pid])).pss_bytes > 1 << 20
    finally:
        parent.communicate(b"\n")
    assert usage(tree([parent.pid])).cpu_seconds == 0  # gone


def test_peak_memory_sees_what_was_given_back() -> None:
    """A process of its own takes 229 MiB when told to, and gives them back."""
    code = "input(); block = bytearray(b'x') * 240_000_000; input(); del block; input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    peak = PeakMemory(lambda: [process.pid], every=0.05)
    try:
        before = servers.wait_for("a first sample", lambda: peak.peak_mb, 20)
        process.stdin.write("\n")
        process.stdin.flush()
        servers.wait_for("the block is seen", lambda: peak.peak_mb > before + 200, 20)
        process.stdin.write("\n")
        process.stdin.flush()
        given_back = 150 * (1 << 20)
        servers.wait_for("it is given back", lambda: usage(tree([process.pid])).pss_bytes < given_back, 20)
        assert peak.close() > before + 200
    finally:
        peak.close()
        process.kill()
        process.communicate()


@pytest.mark.server
@pytest.mark.timeout(600)
def test_bench_stream_measures_drain_and_latency_with_the_archive_job_beside(tmp_path: Path) -> None:
    begun = time.monotonic()
    options = ("--events", "15000", "--rate", "200", "--seconds", "5", "--users", "2000", "--archive")
    told = measured(tmp_path / "home", "stream", *options, "--plots", str(tmp_path / "plots"))
    assert told["runs"] == 1
    assert told["drain"]["events_per_s"] > 500
    assert told["drain"]["cpu_s_per_million"] > 1
    assert 0 < told["paced"]["200"]["p50"] <= told["paced"]["200"]["p99"] < 1000 * (time.monotonic() - begun)
    assert told["drain"]["archive_cpu_cores"] + told["paced"]["200"]["archive_cpu_cores"] > 0
    assert told["machine"]["cores"] == os.cpu_count()
    assert (tmp_path / "plots" / "stream-latency-dark.png").exists()
