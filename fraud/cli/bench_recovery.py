"""`bench recovery`: how long nothing is decided after a kill -9, and what is lost."""

from typing import Annotated

import typer

from fraud.cli.bench import Plots, Users, bench_app, is_told
from fraud.cli.console import say, settings
from fraud.cli.data import Json


@bench_app.command("recovery")
def bench_recovery(
    kills: Annotated[int, typer.Option(help="How often the job is killed.", min=1, max=100)] = 5,
    rate: Annotated[int, typer.Option(help="Events a second, all the while.", min=1)] = 1_000,
    users: Users = 20_000,
    settle: Annotated[
        float, typer.Option(help="Seconds that a job runs after it has caught up, before it is killed.", min=0)
    ] = 10.0,
    only_driver: Annotated[
        bool, typer.Option("--only-driver", help="Kill the driver alone; its JVM and workers must end by themselves.")
    ] = False,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure the recovery: kill -9 the score job under load, start it again at once, wait for news.

    Counts seconds from the kill to the first prediction of a message that had no answer yet, and over the whole
    run what was lost, what was told twice and whether it differed; exits 1 if anything was lost or differed.
    Broker, generator and job share the machine, in FRAUD_HOME/bench on free ports.
    """
    import confluent_kafka  # noqa: F401 - before minutes of work, not after

    from fraud.bench.recovery import Plan, run
    from fraud.bench.rig import prepared
    from fraud.stack.signals import interruptible

    plan = Plan(kills=kills, rate=rate, settle=settle, only_driver=only_driver)
    with interruptible(), prepared(settings(), plan.messages, users, say) as rig:
        result = run(plan, rig, say)
    is_told("recovery", result, plots, as_json=as_json)
    seconds = result["seconds"]
    say(
        f"{result['events']:,} events, {kills} kills: new predictions after {seconds['median']} s "
        f"({seconds['range'][0]} to {seconds['range'][1]}); {result['lost']:,} lost, {result['repeats']:,} repeated, "
        f"{result['different']:,} of them different; load {result['load']}"
    )
    if result["lost"] or result["different"] or any(each["survivors"] for each in result["runs"]):
        raise typer.Exit(1)
