"""`bench stream`: how fast the score job is, and how late its predictions are."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.bench import Plots, Runs, Users, bench_app, is_told
from fraud.cli.console import say, settings, stderr
from fraud.cli.data import Json
from fraud.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table


PERCENTILES = {"p50": "p50", "p95": "p95", "p99": "p99", "p99.9": "p999"}


@bench_app.command()
def stream(
    events: Annotated[int, typer.Option(help="Events of the backlog that is drained.", min=10_000)] = 300_000,
    rate: Annotated[
        list[int] | None,
        typer.Option(help="Events a second that are held; default: 1000, 2000, 5000 and 10000. Repeatable."),
    ] = None,
    users: Users = 20_000,
    seconds: Annotated[int, typer.Option(help="How long each rate is held.", min=5)] = 60,
    runs: Runs = 1,
    archive: Annotated[
        bool, typer.Option("--archive", help="Let the archive job run beside, into a lake on an S3 server of its own.")
    ] = False,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure the stream on this machine: a backlog drained, and the latency at steady rates.

    Starts a broker and score jobs of its own on free ports, in FRAUD_HOME/bench, and stops them. Broker, load
    generator and job share the machine; processor time and memory are the job's whole process tree.
    """
    import confluent_kafka  # noqa: F401 - before minutes of work, not after

    from fraud.bench.rig import prepared
    from fraud.bench.stream import Plan, run
    from fraud.stack.signals import interruptible

    if any(each < 1 for each in rate or ()):
        raise ConfigError(f"--rate {min(rate or ())} holds nothing; give at least 1 a second")
    plan = Plan(events=events, rates=tuple(rate or (1_000, 2_000, 5_000, 10_000)), seconds=seconds, runs=runs)
    with interruptible(), prepared(settings(), plan.messages, users, say, archived=archive) as rig:
        result = run(plan, rig, say)
    if not is_told("stream", result, plots, as_json=as_json):
        stderr().print(_table(result))


def _table(result: dict[str, Any]) -> "Table":
    from rich.table import Table

    machine = result["machine"]
    table = Table(
        title=f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; median of {result['runs']}",
        title_justify="left",
    )
    for name in ("what", "figure"):
        table.add_column(name)
    drain = result["drain"]
    table.add_row("backlog drained", f"{drain['events_per_s']:,.0f} events/s")
    table.add_row("processor time", f"{drain['cpu_s_per_million']:.1f} s per million events")
    table.add_row("memory", f"{drain['rss_mb']:,.0f} MB")
    if "archive_cpu_cores" in drain:
        table.add_row("the archive job beside", f"{drain['archive_cpu_cores']:.2f} cores of it while it was drained")
    for rate, paced in result["paced"].items():
        latency = ", ".join(f"{name} {paced[key]:.0f}" for name, key in PERCENTILES.items())
        table.add_row(f"latency at {int(rate):,}/s", f"{latency} ms; lag grows by {paced['lag_slope']:.0f} a second")
    table.add_row("highest rate with p99 ≤ 200 ms", "none" if result["held"] is None else f"{result['held']:,}/s")
    return table
