"""README's table of measurements: which commands are run for it, and what each one's result says there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    what: str
    figure: str

    def markdown(self, command: str | None) -> str:
        """Return it as README has it; without a command it is the one's of the row above.

        >>> Row("a", "1 ms").markdown("bench x")
        '| a | 1 ms | `bench x` |'
        """
        told = '"' if command is None else f"`{command}`"
        return f"| {self.what} | {self.figure} | {told} |"


@dataclass(frozen=True)
class Part:
    """One command of the table.

    Attributes:
        name: names its result's file too.
        words: what `fraud-detect bench` is given, without --json.
        rows: what its result says.
        needs: a module of the group `peers` without which it is left out; None: nothing beyond the platform's.
        repeated: whether it takes --runs.
        is_variant: whether another part of the same command has the pictures.
    """

    name: str
    words: tuple[str, ...]
    rows: Callable[[Result], list[Row]]
    needs: str | None = None
    repeated: bool = False
    is_variant: bool = False

    def command(self, runs: int) -> tuple[str, ...]:
        """Return its words for so many runs."""
        return (*self.words, "--runs", str(runs)) if self.repeated else self.words


def _range(figures: Result, name: str, pattern: str = "{:,.0f}") -> str:
    """Return a median, its range behind it where there were several runs."""
    found = pattern.format(figures[name])
    if f"{name}_range" not in figures:
        return found
    low, high = (pattern.format(value) for value in figures[f"{name}_range"])
    return found if low == high else f"{found} ({low} to {high})"


def _stream(result: Result, beside: str = "") -> list[Row]:
    drain = result["drain"]
    rows = [
        Row(f"a backlog drained{beside}, all features, full predictions", f"{_range(drain, 'events_per_s')} events/s"),
        Row(
            f"processor time of the job's process tree{beside}",
            f"{_range(drain, 'cpu_s_per_million', '{:.1f}')} s per million events",
        ),
    ]
    for rate, paced in result["paced"].items():
        named = (("p50", "p50"), ("p95", "p95"), ("p99", "p99"), ("p99.9", "p999"))
        told = ", ".join(f"{name} {paced[key]:,.0f}" for name, key in named)
        rows.append(Row(f"latency at {int(rate):,}/s{beside}, broker to broker", f"{told} ms"))
    if not beside:
        rows.append(Row("memory of the job's process tree", f"{drain['rss_mb'] / 1024:.1f} GiB"))
    return rows


def _archived(result: Result) -> list[Row]:
    rows = _stream(result, " with the archive job beside")
    took = f"{result['drain']['archive_cpu_cores']:.2f} of {result['machine']['cores']} cores"
    return [Row(rows[0].what, f"{rows[0].figure}; the archive job took {took}"), *rows[1:]]


def _peers(result: Result) -> list[Row]:
    ours, names = result["spark"], {"quixstreams": "quixstreams", "plain": "a plain consumer that keeps nothing"}
    told = [f"{ours['cpu_s_per_million']:.1f} s ours"]
    told += [f"{result[name]['cpu_s_per_million']:.1f} {label}" for name, label in names.items()]
    rates = [f"{ours['events_per_s']:,.0f} ours"]
    rates += [f"{result[name]['events_per_s']:,.0f} {label}" for name, label in names.items()]
    differences = result["score_differences"]
    return [
        Row("processor time per million events beside what one would pick instead", ", ".join(told)),
        Row("events/s of the same", ", ".join(rates)),
        Row(
            "their scores, row by row",
            f"{differences['compared']:,} compared, largest difference {differences['largest']:.1e}",
        ),
    ]


def _recovery(result: Result) -> list[Row]:
    seconds = result["seconds"]
    told = f"{seconds['median']:.1f} s ({seconds['range'][0]:.1f} to {seconds['range'][1]:.1f})"
    counts = f"{result['lost']} lost, {result['different']} different, {result['repeats']:,} repeated"
    return [
        Row(
            f"kill -9 under {result['rate']:,}/s to the first new prediction, {result['kills']} times",
            f"{told}; of {result['events']:,}: {counts}",
        )
    ]


def _scale(result: Result) -> list[Row]:
    rows = []
    for what, named in (("users", "number of users"), ("entries", "length of the histories, median")):
        told = [f"{_range(each, 'events_per_s')} with {int(count):,}" for count, each in result[what].items()]
        rows.append(Row(f"events/s by {named}", "; ".join([*told, f"{result['kept'][what]:.0%} are kept"])))
    return rows


def _store(result: Result) -> list[Row]:
    rows = []
    names = {"lmdb": "LMDB", "redis": "Redis"}
    batch = str(result["goal"]["batch"])
    for store, by_length in result["stores"].items():
        if by_length:
            row = by_length["mix"][batch]
            told = ", ".join(f"{what} {row[what]['p99_us_per_key']:.1f}" for what in ("read", "commit"))
            rows.append(Row(f"{names.get(store, store)}, p99 in batches of {int(batch):,}", f"{told} µs per key"))
    return rows


def _features(result: Result) -> list[Row]:
    told = ", ".join(
        f"{result['entries'][length]['fold']['median'] / 1000:.2f} at {length} entries" for length in ("60", "400")
    )
    return [Row("a user's features, one thread", f"{told}; µs per event")]


def _model(result: Result) -> list[Row]:
    named = (("the job's forest", "compiled_us"), ("XGBoost", "xgboost_us"), ("ONNX Runtime", "onnx_us"))
    row = result["rows"]["1000"]
    told = ", ".join(f"{label} {row[key]['median']:.1f}" for label, key in named if row[key] is not None)
    return [Row(f"scoring a thousand rows, {result['trees']} trees, one thread", f"{told} µs per row")]


def _train(result: Result) -> list[Row]:
    what = f"retraining on {result['transactions']:,} simulated transactions"
    return [
        Row(
            f"{what}, search of {result['candidates']} candidates included",
            f"{result['seconds']:.0f} s, {result['peak_rss_mb'] / 1024:.1f} GiB",
        )
    ]


def _rates(*rates: int) -> tuple[str, ...]:
    return tuple(word for rate in rates for word in ("--rate", str(rate)))


PARTS = (
    Part("stream", ("stream", "--events", "800000", *_rates(1_000, 5_000, 10_000)), _stream, repeated=True),
    Part("archived", ("stream", "--archive", "--seconds", "45", *_rates(1_000, 5_000)), _archived, is_variant=True),
    Part("peers", ("peers",), _peers, needs="quixstreams", repeated=True),
    Part("recovery", ("recovery",), _recovery),
    Part("scale", ("scale",), _scale, repeated=True),
    Part("store", ("store",), _store),
    Part("features", ("features",), _features),
    Part("model", ("model",), _model),
    Part("train", ("train",), _train),
)
