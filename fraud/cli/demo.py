"""The command `demo`: the whole platform, once."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.console import SEEDS, emit, say, settings, stderr
from fraud.cli.main import app

if TYPE_CHECKING:
    from rich.table import Table

SWAP_SECONDS = 5.0


@app.command()
def demo(
    rate: Annotated[float, typer.Option(help="Transactions a second.", min=1)] = 1_000.0,
    seconds: Annotated[float, typer.Option(help="How long to stream, about.", min=5)] = 110.0,
    users: Annotated[int, typer.Option(help="How many users are simulated.", min=100)] = 14_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same population.", min=0, max=SEEDS)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON line on stdout.")] = False,
) -> None:
    """Run the whole platform once: simulate, train, promote, stream, swap the model, and report.

    Starts Kafka, S3, MLflow and the score job on the ports that the settings name, and stops all of them at the
    end, also after Ctrl-C. Leaves report.json and the logs in FRAUD_HOME/demo. Exits 1 unless every message is
    answered, by two versions, the second within five seconds of its promotion.
    """
    from fraud.demo.run import Plan, prepare, run
    from fraud.stack.signals import interruptible

    with interruptible():
        own = prepare(settings())
        report = run(own, Plan(rate=rate, seconds=seconds, users=users, seed=seed), say)
    path = own.home / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    if as_json:
        emit(report)
    else:
        stderr().print(_table(report, path))
    if report["missing"] or len(report["model_versions"]) < 2 or report["swap_seconds"] > SWAP_SECONDS:
        say(f"error: a message without an answer, or no swap within {SWAP_SECONDS:.0f} s; see the report and the logs")
        raise typer.Exit(1)


def _table(report: dict[str, Any], path: Path) -> "Table":
    from rich.table import Table

    table = Table(title="What happened", show_header=False, title_justify="left")
    latency, quality = report["latency_ms"], report["average_precision"]
    rows = {
        "messages sent": f"{report['produced']:,}",
        "scored": f"{report['scored']:,}",
        "rejected, with a reason": f"{report['rejected']:,}",
        "without an answer": f"{report['missing']:,}",
        "published twice": f"{report['duplicates']:,}",
        "latency": ", ".join(f"{name} {'?' if ms is None else round(ms)} ms" for name, ms in latency.items()),
        "model versions": " → ".join(report["model_versions"]),
        "swap after promotion": f"{report['swap_seconds']} s",
        "frauds found (recall)": f"{report['recall']:.1%}",
        "alarms that were right (precision)": f"{report['precision']:.1%}",
        "average precision": f"{quality['value']:.3f} (random {quality['floor']:.3f}, oracle {quality['oracle']:.3f})",
        "peak memory": f"{report['peak_rss_mb']:,.0f} MB, all processes",
        "took": f"{report['seconds']:.0f} s",
        **{f"{name} was at": address for name, address in report["addresses"].items()},
        "report": str(path),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
