"""The demo, small: it ends well, and it ends whenever it is told to."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fraud.stack import processes
from fraud.stack.processes import Mark
from tests import servers

pytestmark = pytest.mark.server
SMALL = ["--users", "2500", "--rate", "500"]
SEED = 20_261_125
ENDS_SECONDS = 25  # the servers get 9 s to end in order; a busy machine takes its time to count processes


def start(home: Path, *options: str) -> "tuple[subprocess.Popen[bytes], Path]":
    settings = servers.settings(home)
    log = home / "demo.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fraud.cli", "demo", *SMALL, *options],
            env=servers.environment(settings),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, log


def left_over(home: Path) -> list[str]:
    """Return what still runs of a demo in `home`, whoever its parent is."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = Mark.of(process)
            if mark is not None and mark.home == home / "demo" and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
        except psutil.Error:
            continue
    return found


def end_at_once(process: "subprocess.Popen[bytes]", home: Path) -> None:
    """End what a failed test leaves: the demo, and its servers, which have a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    processes.end(processes.of_home(home / "demo"), 0)


@pytest.mark.timeout(600)
def test_the_demo_answers_everything_by_two_versions(tmp_path: Path) -> None:
    process, log = start(tmp_path)
    try:
        assert process.wait(500) == 0, log.read_text()[-3_000:]
    finally:
        end_at_once(process, tmp_path)
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["missing"] == 0
    assert report["produced"] == report["scored"] + report["rejected"]
    assert report["model_versions"] == ["1", "2"]
    assert report["swap_seconds"] <= 5
    assert report["dag_run_state"] == "success"
    assert report["recall_new_pattern_before"] < 0.3
    assert report["recall_new_pattern_after"] > 0.5  # a population of 2,500; `make demo` has 8,000
    assert report["labels"] > 50
    assert report["average_precision"]["value"] >= 0.3  # most of the stream is version 1's, which misses a lot
    assert report["peak_rss_mb"] > 500  # a JVM alone has more: the whole tree was measured
    assert left_over(tmp_path) == []


@pytest.mark.timeout(400)
def test_ctrl_c_at_any_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    # Into the simulation, the servers' start, the load, Airflow's start and training, the stream and the DAG's run.
    moments = [chance.uniform(low, high) for low, high in ((0.3, 3), (4, 14), (20, 45), (70, 100))]
    for number, moment in enumerate(moments):
        home = tmp_path / str(number)
        process, log = start(home)
        print(f"Ctrl-C after {moment:.1f} s")
        time.sleep(moment)  # the moment is what is tested
        os.killpg(process.pid, signal.SIGINT)
        told = time.monotonic()
        try:
            code = process.wait(ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            end_at_once(process, home)
            pytest.fail(f"it runs on {ENDS_SECONDS} s after Ctrl-C at {moment:.1f} s: {log.read_text()[-2_000:]}")
        assert code == 130, log.read_text()[-2_000:]
        assert left_over(home) == []
        print(f"  ended in {time.monotonic() - told:.1f} s")
