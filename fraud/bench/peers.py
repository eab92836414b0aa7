"""`bench peers`: our job beside other frameworks, with the same features and the same model.

Each system starts on the same messages in a topic filled already, from the same past and model, and is timed
as `fraud.bench.stream.drain` times the score job. What it answered is kept, and all systems' scores are
compared row by row: figures of systems that say different things aren't comparable, and void the run.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fraud import bus
from fraud.bench.job import Job
from fraud.bench.latency import read
from fraud.bench.processes import load, machine
from fraud.bench.rig import Rig, Say
from fraud.bench.stream import Offsets, Plan, drain, summary
from fraud.errors import ServiceError, StateError

# The repository; an installed package has no peers.
ROOT = Path(__file__).resolve().parent.parent.parent
OURS = "spark"
PEERS = {"quixstreams": "bench.peers.quix", "plain": "bench.peers.plain"}
NEEDED = ("confluent_kafka", "quixstreams", "onnxruntime", "onnxmltools")
TOLERANCE = 1e-5  # of a probability; decimal places beyond are a float32's business

# Partition → each offset's fraud_probability, shape (messages,), NaN where it has none.
Scores = Mapping[int, npt.NDArray[np.float64]]


class _Source(msgspec.Struct):
    partition: int
    offset: int


class _Scored(msgspec.Struct):
    """The part of a prediction that is compared."""

    source: _Source
    fraud_probability: float


_SCORED = msgspec.json.Decoder(_Scored)


def require() -> None:
    """Check that the peers are here, before minutes of work.

    Raises:
        StateError: this isn't a checkout of the repository.
        ModuleNotFoundError: a package is missing; the command line says how to install it.
    """
    if not (ROOT / "bench" / "peers").is_dir():
        raise StateError("the peers aren't part of the installed package; run this from a checkout, after `make peers`")
    for module in NEEDED:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def run(plan: Plan, rig: Rig, say: Say) -> dict[str, Any]:
    """Measure every system and return medians with ranges, as contracts.md says (`bench peers --json`).

    Raises:
        ServiceError: the systems' scores differ, or one of them failed.
    """
    before, messages = load(), list(rig.messages(plan.messages))
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in (OURS, *PEERS)}
    compared, largest = 0, 0.0
    for number in range(1, plan.runs + 1):
        scores = {}
        for name, measured in figures.items():
            rig.reset()
            measured.append(drain(plan, rig, iter(messages), _starting(rig, name, number)))
            say(f"run {number}: {name} drained {measured[-1]['events_per_s']:,.0f} events/s")
            scores[name] = read_scores(rig.bootstrap, rig.ends(bus.TRANSACTIONS), rig.ends(bus.PREDICTIONS))
            _forget_changelogs(rig)
        found = compare(scores)
        compared, largest = compared + int(found["compared"]), max(largest, found["largest"])
    return {
        **{name: summary(measured) for name, measured in figures.items()},
        "score_differences": {"compared": compared, "largest": largest},
        "machine": machine(),
        "load": {"before": before, "after": load()},
        "runs": plan.runs,
    }


def read_scores(bootstrap: str, sent: Offsets, until: Offsets) -> Scores:
    """Return what was scored of the messages below `sent`, read from the predictions below `until`.

    Raises:
        ServiceError: a message was scored twice, differently; Kafka doesn't give what it holds.
    """
    scores = {partition: np.full(end, np.nan) for partition, end in sent.items()}
    for message in read(bootstrap, bus.PREDICTIONS, {}, until):
        answer = _SCORED.decode(message.value() or b"")
        partition, offset = answer.source.partition, answer.source.offset
        known = scores[partition][offset]
        if not np.isnan(known) and abs(known - answer.fraud_probability) > TOLERANCE:
            raise ServiceError(
                f"partition {partition}, offset {offset} was scored {known} and {answer.fraud_probability}"
            )
        scores[partition][offset] = answer.fraud_probability
    return scores


def compare(scores: Mapping[str, Scores]) -> dict[str, float]:
    """Compare every system's scores with the first one's, row by row.

    Returns:
        {compared: rows that all have, largest: the largest difference of two probabilities}.

    Raises:
        ServiceError: a row is missing somewhere, or differs by more than TOLERANCE: the run is void.

    >>> compare({"a": {0: np.array([0.5])}, "b": {0: np.array([0.5])}})
    {'compared': 1, 'largest': 0.0}
    """
    first, *others = scores
    largest = 0.0
    for name, found in scores.items():
        for partition, values in scores[first].items():
            _none_missing(name, partition, found.get(partition, np.empty(0)), len(values))
    for name in others:
        for partition, values in scores[first].items():
            differences = np.abs(scores[name][partition] - values)
            if not len(differences):
                continue
            worst = int(differences.argmax())
            if differences[worst] > TOLERANCE:
                raise ServiceError(
                    f"the run is void: {name} and {first} score {int((differences > TOLERANCE).sum()):,} of "
                    f"{len(values):,} messages of partition {partition} differently; offset {worst}: "
                    f"{scores[name][partition][worst]:.8f} against {values[worst]:.8f}"
                )
            largest = max(largest, float(differences[worst]))
    return {"compared": sum(map(len, scores[first].values())), "largest": largest}


def _none_missing(name: str, partition: int, values: npt.NDArray[np.float64], messages: int) -> None:
    missing = np.flatnonzero(np.isnan(values)) if len(values) == messages else np.arange(len(values), messages)
    if len(missing) or len(values) != messages:
        raise ServiceError(
            f"the run is void: {name} has no score for {max(len(missing), 1):,} of {messages:,} messages of "
            f"partition {partition}, the first at offset {int(missing[0]) if len(missing) else messages}"
        )


def _starting(rig: Rig, name: str, number: int) -> AbstractContextManager[Job]:
    """Return what starts a system when it is entered."""
    if name == OURS:
        return rig.job("throughput")
    shutil.rmtree(rig.settings.data / "peers", ignore_errors=True)
    processes = min(os.cpu_count() or 1, rig.settings.topic_partitions)
    where = ["--home", str(rig.settings.home), "--bootstrap", rig.bootstrap]
    size = ["--group", f"peers-{name}-{number}", "--processes", str(processes)]
    return rig.program(name, [sys.executable, "-m", PEERS[name], *where, *size], f"peers-{name}", ROOT)


def _forget_changelogs(rig: Rig) -> None:
    """Delete quixstreams' changelog topics: gigabytes that no later run reads."""
    with bus.admin(rig.bootstrap) as client:
        names: Iterator[str] = (name for name in client.list_topics() if name.startswith("changelog__"))
        if found := list(names):
            client.delete_topics(found)
