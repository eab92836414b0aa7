"""`bench features`, `codec`, `model`, `store` and `guard`: what the parts of a decision cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.bench import Plots, bench_app, is_told
from fraud.cli.console import emit, say, settings, stderr
from fraud.cli.data import Json

if TYPE_CHECKING:
    from rich.table import Table

Repeats = Annotated[int, typer.Option(help="How often each is timed; figures are medians with ranges.", min=1)]


@bench_app.command("features")
def bench_features(
    events: Annotated[int, typer.Option(help="Events of a batch, each of another user.", min=1, max=10_000)] = 1_000,
    repeats: Repeats = 9,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure the feature kernels: nanoseconds per event by the length of the history, one thread.

    Users' and merchants' features apart, in a batch and for a single event; and what lies between the store's
    bytes and the kernel.
    """
    from fraud.bench.kernels import run

    result = run(events, repeats, say)
    if is_told("features", result, plots, as_json=as_json):
        return
    table = _table(result, "history", "fold", "one event", "unpack", "pack")
    for length, row in result["entries"].items():
        table.add_row(length, *(f"{row[name]['median']:,.0f} ns" for name in ("fold", "fold_one", "unpack", "pack")))
    stderr().print(table)
    table = _table(result, "merchant's changes", "batch", "one event")
    for changes, row in result["merchants"].items():
        table.add_row(changes, *(f"{row[name]['median']:,.0f} ns" for name in ("batch", "one")))
    stderr().print(table)


@bench_app.command("codec")
def bench_codec(
    messages: Annotated[int, typer.Option(help="Different messages of each kind.", min=1, max=15_000)] = 1_000,
    repeats: Repeats = 9,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure reading and writing messages: microseconds per message, the standard library's JSON beside.

    Reading checks the whole contract, json.loads nothing. A message is unusual where it isn't ASCII.
    """
    from fraud.bench.codec import run

    result = run(messages, repeats, say)
    if is_told("codec", result, plots, as_json=as_json):
        return
    table = _table(result, "call", "bytes", "ours", "json", "ratio", unit="µs per message")
    for name, row in result["calls"].items():
        peer = ("", "") if row["ratio"] is None else (f"{row['json_us']['median']:.2f}", f"{row['ratio']:.2f}")
        table.add_row(name, str(row["bytes"]), f"{row['us']['median']:.2f}", *peer)
    stderr().print(table)


@bench_app.command("model")
def bench_model(
    trees: Annotated[int, typer.Option(help="Trees of the model that is timed.", min=1, max=5_000)] = 300,
    depth: Annotated[int, typer.Option(help="How deep they are.", min=1, max=12)] = 4,
    repeats: Repeats = 9,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure scoring: microseconds per row by batch, the job's compiled forest, XGBoost and ONNX Runtime beside.

    One thread each. Besides, the largest difference between ONNX Runtime's probabilities and ours, which are
    XGBoost's. ONNX Runtime is optional: `make peers` installs it.
    """
    from fraud.bench.model import run

    result = run(trees, depth, repeats, say)
    if is_told("model", result, plots, as_json=as_json):
        return
    table = _table(result, "rows", "compiled", "XGBoost", "ONNX Runtime", unit="µs per row")
    for rows, row in result["rows"].items():
        figures = (row[name] for name in ("compiled_us", "xgboost_us", "onnx_us"))
        table.add_row(f"{int(rows):,}", *("—" if each is None else f"{each['median']:.1f}" for each in figures))
    stderr().print(table)
    if result["difference"] is not None:
        say(f"the probabilities differ by at most {result['difference']:.1g}")


@bench_app.command("store")
def bench_store(
    users: Annotated[int, typer.Option(help="Users with a history.", min=1_000, max=10_000_000)] = 10_000,
    rounds: Annotated[int, typer.Option(help="Batches of each size.", min=20)] = 200,
    seconds: Annotated[float, typer.Option(help="No more batches of a size after so long.", min=0)] = 20.0,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure the online store: reads and whole commits, by batch and by length of the histories.

    LMDB in FRAUD_HOME/bench, and a Redis server of its own where a binary is found; FRAUD_STORE_DURABILITY
    holds for both. The goal: p99 of at most 0.1 ms per key in batches of 1,000 on LMDB.
    """
    from fraud.bench.store import Plan, opened, run
    from fraud.stack.signals import interruptible

    with interruptible(), opened(settings(), say) as stores:
        result = run(Plan(users, rounds, seconds), stores, say)
    if is_told("store", result, plots, as_json=as_json):
        return
    table = _table(
        result, "store", "histories", "batch", "read p50", "read p99", "commit p50", "commit p99", unit="µs per key"
    )
    for store, by_length in result["stores"].items():
        for length, by_batch in (by_length or {}).items():
            for batch, row in by_batch.items():
                values = (row[what][f"{p}_us_per_key"] for what in ("read", "commit") for p in ("p50", "p99"))
                table.add_row(store, length, f"{int(batch):,}", *(f"{value:,.1f}" for value in values))
    stderr().print(table)
    goal = result["goal"]
    say(
        f"goal: p99 of at most {goal['p99_us_per_key']:g} µs per key in batches of {goal['batch']:,}; the worst is "
        f"{goal['worst']:g}: {'met' if goal['met'] else 'missed'}"
    )


@bench_app.command("guard")
def bench_guard(
    expected: Annotated[Path, typer.Option(help="The file of expected ratios.")] = Path("bench/expected.json"),
    repeats: Repeats = 7,
    as_json: Json = False,
) -> None:
    """Compare the parts' ratios with the expected ones; exit 1 where one has grown beyond its tolerance.

    Ratios of calls timed in turns (decoding beside json.loads, a long history beside a short one) say the same on
    every machine, so they tell a regression from a slow computer.
    """
    from fraud.bench.guard import read_expected, run

    result = run(read_expected(expected), say, repeats)
    if as_json:
        emit(result)
    if not result["held"]:
        raise typer.Exit(1)


def _table(result: dict[str, Any], *columns: str, unit: str = "") -> "Table":
    from rich.table import Table

    machine = result["machine"]
    title = f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, load {result['load']}"
    title += f"; {unit}" if unit else ""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    return table
