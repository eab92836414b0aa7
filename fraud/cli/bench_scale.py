"""`bench scale`: what more users cost."""

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
    events: Annotated[int, typer.Option(help="Events of the backlog that is drained.", min=10_000)] = 300_000,
    runs: Runs = 1,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure whether the throughput holds with more users: the same messages, spread over copies of each user.

    The store lies in FRAUD_HOME/bench while it runs: a million users take gigabytes of disk.
    """
    import confluent_kafka  # noqa: F401 - before minutes of work, not after

    from fraud.bench.rig import prepared
    from fraud.bench.scale import run
    from fraud.bench.stream import Plan
    from fraud.stack.signals import interruptible

    plan = Plan(events=events, rates=(), runs=runs)
    with interruptible(), prepared(settings(), plan.messages, users, say) as rig:
        result = run(plan, rig, copies or [1, 100], say)
    if is_told("scale", result, plots, as_json=as_json):
        return
    for count, figures in result["users"].items():
        say(
            f"{int(count):,} users: {figures['events_per_s']:,.0f} events/s, {figures['cpu_s_per_million']:.1f} s of "
            f"processor time per million events, {figures['rss_mb']:,.0f} MB"
        )
    say(f"the largest keeps {result['kept']:.0%} of the smallest's throughput")
