"""`bench codec`: what a message costs to read and an answer to write, beside the standard library's JSON."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from fraud import codec
from fraud.bench.processes import load, machine
from fraud.bench.sample import Sample, simulated
from fraud.bench.timing import Call, measure, ratio
from fraud.codec import Refused
from fraud.features import FEATURE_NAMES, FEATURE_VERSION, INTEGER_FEATURES

AT = "2026-02-01T00:00:00.000Z"
PEER = " by json"  # after a call's name: the standard library on the same messages

Say = Callable[[str], None]


def run(messages: int, repeats: int, say: Say) -> dict[str, Any]:
    """Measure each call on the same `messages`.

    Returns:
        {messages, calls: {name: {us: {median, range}, json_us, ratio, bytes}}, repeats, load, machine}; µs per
        message; `json_us` is `json.loads` or `json.dumps` on the same messages and `ratio` compares the
        fastest of both; null where there is nothing to compare with. `bytes` is a message's mean length.
    """
    busy = load()
    sample = simulated().last(messages)
    named, sizes = calls(sample)
    timings = measure(named, repeats)
    found: dict[str, Any] = {}
    for name, size in sizes.items():
        own, peer = timings[name], timings.get(name + PEER)
        scale = 1e6 / len(sample.messages)
        found[name] = {
            "us": own.figures(scale),
            "json_us": None if peer is None else peer.figures(scale),
            "ratio": None if peer is None else ratio(own, peer),
            "bytes": size,
        }
        beside = "" if peer is None else f", json {found[name]['json_us']['median']} µs"
        say(f"{name}: {found[name]['us']['median']} µs{beside}")
    return {
        "messages": len(sample.messages),
        "calls": found,
        "repeats": repeats,
        "load": busy,
        "machine": machine(),
    }


def calls(sample: Sample) -> tuple[dict[str, Call], dict[str, int]]:
    """Return what is measured, by name, its peers among it, and the mean length of each one's messages."""
    unusual = [_changed(raw, merchant_id="Café 12") for raw in sample.messages]
    wrong = [_changed(raw, amount=-1) for raw in sample.messages]
    predictions = encode(sample)
    refused = codec.decode_transaction(wrong[0], sample.keys[0])
    assert isinstance(refused, Refused)  # noqa: S101
    rejections = reject(sample, refused, wrong)
    told, kept = [json.loads(raw) for raw in predictions], [json.loads(raw) for raw in rejections]
    named: dict[str, Call] = {
        "decode": lambda: decode(sample, sample.messages),
        "decode_unusual": lambda: decode(sample, unusual),
        "decode_refused": lambda: decode(sample, wrong),
        "event_columns": lambda: codec.event_columns(sample.transactions, sample.digests),
        "encode_predictions": lambda: encode(sample),
        "reject": lambda: reject(sample, refused, wrong),
        f"decode{PEER}": lambda: [json.loads(raw) for raw in sample.messages],
        f"decode_unusual{PEER}": lambda: [json.loads(raw) for raw in unusual],
        f"decode_refused{PEER}": lambda: [json.loads(raw) for raw in wrong],
        f"encode_predictions{PEER}": lambda: [json.dumps(each).encode() for each in told],
        f"reject{PEER}": lambda: [json.dumps(each).encode() for each in kept],
    }
    about = {
        "decode": sample.messages,
        "decode_unusual": unusual,
        "decode_refused": wrong,
        "event_columns": sample.messages,
        "encode_predictions": predictions,
        "reject": rejections,
    }
    return named, {name: round(sum(map(len, texts)) / len(texts)) for name, texts in about.items()}


def decode(sample: Sample, messages: list[bytes]) -> list[object]:
    """Decode every message."""
    return [codec.decode_transaction(raw, key) for raw, key in zip(messages, sample.keys, strict=True)]


def encode(sample: Sample) -> list[bytes]:
    """Encode a prediction of every transaction, with all its features."""
    count = len(sample.transactions)
    return codec.encode_predictions(
        sample.transactions,
        sample.matrix,
        np.linspace(0.0, 1.0, count),
        np.zeros(count, np.int64),
        ["APPROVE"] * count,
        threshold=0.5,
        model_name="fraud-detector",
        model_version="1",
        feature_version=FEATURE_VERSION,
        profile_through=AT,
        topic="transactions",
        partition=0,
        offsets=np.arange(count, dtype=np.int64),
        scored_at=AT,
        names=FEATURE_NAMES,
        integers=INTEGER_FEATURES,
    )


def reject(sample: Sample, refused: Refused, messages: list[bytes]) -> list[bytes]:
    """Encode a rejection of every message."""
    return [
        codec.reject(refused, topic="transactions", partition=0, offset=row, key=key, raw=raw, rejected_at=AT)[1]
        for row, (key, raw) in enumerate(zip(sample.keys, messages, strict=True))
    ]


def _changed(raw: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(raw), **fields}, ensure_ascii=False).encode()
