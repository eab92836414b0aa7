"""`bench scale`: what more users and longer histories cost."""

from typing import Annotated

import typer

from fraud.cli.bench import Plots, Runs, Users, bench_app, is_told
from fraud.cli.console import say, settings
from fraud.cli.data import Json


@bench_app.command("scale")
def bench_scale(
    users: Users = 10_000,
    copies: Annotated[
        list[int] | None, typer.Option(help="How many of each there are; default: 1 and 100. Repeatable.", min=1)
    ] = None,
    longer: Annotated[
        list[int] | None,
        typer.Option(help="How many times as long the histories are; default: 1 and 7. Repeatable.", min=1),
    ] = None,
    events: Annotated[int, typer.Option(help="Events of the backlog that is drained.", min=10_000)] = 300_000,
    rate: Annotated[
        list[int] | None,
        typer.Option(help="Besides, events a second that are held; default: none. Repeatable.", min=1),
    ] = None,
    seconds: Annotated[int, typer.Option(help="How long each rate is held.", min=5)] = 60,
    runs: Runs = 1,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure whether the speed holds with more users, and with longer histories.

    The same messages, spread over copies of each user; or each entry of a history several times, 512 at most,
    and the messages as much closer to each other, so that histories keep their length.
    The store lies in FRAUD_HOME/bench while it runs: a million users take gigabytes of disk.
    """
    import confluent_kafka  # noqa: F401 - before minutes of work, not after

    from fraud.bench.rig import prepared
    from fraud.bench.scale import run
    from fraud.bench.stream import Plan
    from fraud.stack.signals import interruptible

    plan = Plan(events=events, rates=tuple(rate or ()), seconds=seconds, runs=runs)
    with interruptible(), prepared(settings(), plan.messages, users, say) as rig:
        result = run(plan, rig, copies or [1, 100], longer or [1, 7], say)
    if is_told("scale", result, plots, as_json=as_json):
        return
    for what, unit in (("users", "users"), ("entries", "entries in the median")):
        for count, figures in result[what].items():
            say(
                f"{int(count):,} {unit}: {figures['events_per_s']:,.0f} events/s, {figures['cpu_s_per_million']:.1f} s "
                f"of processor time per million events, {figures['rss_mb']:,.0f} MB"
            )
            for held, latency in figures["paced"].items():
                say(f"  {int(held):,}/s: p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms")
        say(f"the last keeps {result['kept'][what]:.0%} of the first one's throughput")
