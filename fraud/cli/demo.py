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
MISSED, CAUGHT = 0.3, 0.7  # of the new pattern: what version 1 stays below, and version 2 comes above


@app.command()
def demo(
    rate: Annotated[float, typer.Option(help="Transactions a second.", min=1)] = 300.0,
    users: Annotated[int, typer.Option(help="How many users are simulated.", min=1_000)] = 8_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same population.", min=0, max=SEEDS)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON line on stdout.")] = False,
) -> None:
    """Run the whole platform once: a model that misses a new fraud, labels, retraining, and one that finds it.

    Starts Kafka, S3, MLflow, Airflow, the score job and the archive job on the ports that the settings name, and
    stops all of them at the end, also after Ctrl-C. Leaves report.json and the logs in FRAUD_HOME/demo. Exits 1
    unless every message is answered, the DAG succeeds, and a second version answers within five seconds of its
    promotion.
    """
    from fraud.demo.plan import Plan
    from fraud.demo.run import prepare, run
    from fraud.stack.signals import interruptible

    with interruptible():
        own = prepare(settings())
        report = run(own, Plan(rate=rate, users=users, merchants=max(100, users // 7), seed=seed), say)
    path = own.home / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    if as_json:
        emit(report)
    else:
        stderr().print(_table(report, path))
    for what in unexpected(report):
        say(f"note: {what}")
    wrong = failures(report)
    for what in wrong:
        say(f"error: {what}; see {path} and {own.logs}")
    if wrong:
        raise typer.Exit(1)


def failures(report: dict[str, Any]) -> list[str]:
    """Return what didn't work, a clause each: then the demo has failed."""
    found = []
    if report["missing"]:
        found.append(f"{report['missing']:,} messages have no answer")
    if report["dag_run_state"] != "success":
        found.append(f"Airflow's run ended as {report['dag_run_state']}")
    elif len(report["model_versions"]) < 2:
        found.append("no second version has answered: the gate kept it out, or the stream didn't swap")
    elif report["swap_seconds"] is None or report["swap_seconds"] > SWAP_SECONDS:
        found.append(f"the stream swapped after {report['swap_seconds']} s, and {SWAP_SECONDS:g} are allowed")
    return found


def unexpected(report: dict[str, Any]) -> list[str]:
    """Return, a sentence each, what everybody did right and yet came out otherwise than it usually does."""
    before, after = report["recall_new_pattern_before"], report["recall_new_pattern_after"]
    found = []
    if before is not None and before >= MISSED:
        found.append(f"version 1 found {before:.0%} of what it had never seen")
    if after is not None and after <= CAUGHT:
        found.append(f"the second version found only {after:.0%} of the new pattern")
    return found


def _table(report: dict[str, Any], path: Path) -> "Table":
    from rich.table import Table

    table = Table(title="What happened", show_header=False, title_justify="left")
    latency, quality, pattern = report["latency_ms"], report["average_precision"], report["new_pattern"]
    rows = {
        "messages sent": f"{report['produced']:,}, and {report['labels']:,} labels",
        "scored": f"{report['scored']:,}",
        "rejected, with a reason": f"{report['rejected']:,}",
        "without an answer": f"{report['missing']:,}",
        "published twice": f"{report['duplicates']:,}",
        "latency": ", ".join(f"{name} {'?' if ms is None else round(ms)} ms" for name, ms in latency.items()),
        "Airflow's run": str(report["dag_run_state"]),
        "model versions": " → ".join(report["model_versions"]),
        "swap after promotion": f"{report['swap_seconds']} s",
        f"{pattern['name']} found before": _recall(report["recall_new_pattern_before"], pattern["before"]),
        f"{pattern['name']} found after": _recall(report["recall_new_pattern_after"], pattern["after"]),
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


def _recall(share: float | None, counts: dict[str, int]) -> str:
    return "none came by" if share is None else f"{share:.1%} ({counts['found']} of {counts['frauds']})"
