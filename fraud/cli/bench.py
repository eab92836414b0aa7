"""`bench`: measurements that can be repeated."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fraud.cli.console import SEEDS, emit, say
from fraud.cli.data import Json
from fraud.cli.main import app

bench_app = typer.Typer(
    help="Measure: the model's quality, the stream's speed and its parts', what a crash costs.", no_args_is_help=True
)
app.add_typer(bench_app, name="bench")

# What several measurements of the stream ask for.
Users = Annotated[int, typer.Option(help="Users; each begins with a history of 60 in the median.", min=2_000)]
Runs = Annotated[int, typer.Option(help="How often everything is done; figures are medians.", min=1)]
# What every measurement with a picture asks for.
Plots = Annotated[
    Path | None, typer.Option(help="Draw the figures into this folder: PNG, for a light and for a dark page.")
]


def is_told(what: str, result: dict[str, Any], plots: Path | None, *, as_json: bool) -> bool:
    """Draw what is to be drawn, print JSON where it is asked for; return whether nothing is left to say."""
    if plots is not None:
        from fraud.bench.plots import charts, draw

        for path in draw(charts(what, result), plots):
            say(str(path))
    if as_json:
        emit(result)
    return as_json


@bench_app.command()
def handbook(
    data: Annotated[Path, typer.Option(help="The Handbook's Parquet file, or a folder of them.")],
    start: Annotated[
        list[str] | None,
        typer.Option(help="First day of a training week; default: the newest four the data hold. Repeatable."),
    ] = None,
    trees: Annotated[int, typer.Option(help="How many trees.")] = 100,
    depth: Annotated[int, typer.Option(help="How deep they are.")] = 3,
    eta: Annotated[float, typer.Option(help="How much each tree corrects.")] = 0.1,
    reg_lambda: Annotated[float, typer.Option(help="How much each leaf is pulled towards nothing.", min=0)] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same figures.", min=0, max=SEEDS)] = 0,
    threads: Annotated[int, typer.Option(help="Threads; 0: all cores.")] = 0,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Besides: SMOTE's ratio, calibration, the library's defaults or ours.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure quality by the Fraud Detection Handbook's protocol, with this platform's features.

    Train seven days, wait seven, test seven, known-compromised cards removed. Compare average precision with
    its floor (random order), Card Precision@100 with its oracle. Everything with the book's best, on its own weeks.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as `train` does
    from datetime import UTC, datetime, timedelta

    from fraud.cli.data import moment
    from fraud.handbook import handbook_labels, read_handbook
    from fraud.training import Parameters, labelled_rows
    from fraud.training.protocol import DELAY_DAYS, newest_weeks, run_protocol

    parameters = Parameters(trees=trees, depth=depth, eta=eta, reg_lambda=reg_lambda)
    say(f"reading {data} and building features")
    transactions, delay = read_handbook(data), timedelta(days=DELAY_DAYS)
    # A week after the last transaction every fraud has its label: what is known is the truth.
    newest = datetime.fromtimestamp(transactions["timestamp"].dt.epoch("ms").to_numpy().max() / 1000, UTC)
    rows = labelled_rows(transactions, handbook_labels(data, delay), newest + delay, delay)
    starts = [moment(day).date() for day in start] if start else newest_weeks(rows)
    result = run_protocol(rows, starts, parameters, seed=seed, threads=threads, say=say)
    if ablations:
        from fraud.training.ablations import run_ablations

        result["ablations"] = run_ablations(rows, starts, seed=seed, threads=threads, say=say)
    if as_json:
        emit(result)
        return
    for name, value in result["mean"].items():
        floor, oracle, book = (result[beside][name] for beside in ("floor", "oracle", "book"))
        say(f"{name}: mean {value:.3f} (random {floor:.3f}, oracle {oracle:.3f}, the book on its own weeks {book:.3f})")
    for each in result.get("ablations", []):
        say(
            f"{each['variant']:>40}: AP {each['average_precision']:.3f}, AUC {each['auc']:.3f}, "
            f"CP@100 {each['card_precision_100']:.3f}, ECE {each['ece_raw']:.4f} → {each['ece']:.4f} calibrated, "
            f"Brier {each['brier_raw']:.5f} → {each['brier']:.5f}"
        )
