"""`bench peers`: the score job beside other frameworks."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fraud.cli.bench import Plots, Runs, Users, bench_app, is_told
from fraud.cli.console import say, settings, stderr
from fraud.cli.data import Json

if TYPE_CHECKING:
    from rich.table import Table


@bench_app.command()
def peers(
    events: Annotated[int, typer.Option(help="Events of the backlog that each system drains.", min=10_000)] = 200_000,
    users: Users = 20_000,
    runs: Runs = 1,
    plots: Plots = None,
    as_json: Json = False,
) -> None:
    """Measure the score job beside quixstreams and beside a plain consumer, on this machine.

    All three drain the same backlog from the same past with the same features and the same model; their scores
    are compared row by row, and one that differs by more than 0.00001, or is missing, voids the run. The plain
    consumer keeps nothing that survives it: it is the ceiling. The peers stand in bench/peers; `make peers`
    installs what they need.
    """
    from fraud.bench.peers import require, run
    from fraud.bench.rig import prepared
    from fraud.bench.stream import Plan
    from fraud.stack.signals import interruptible

    require()
    plan = Plan(events=events, rates=(), runs=runs)
    with interruptible(), prepared(settings(), plan.messages, users, say) as rig:
        result = run(plan, rig, say)
    if not is_told("peers", result, plots, as_json=as_json):
        stderr().print(_table(result))


def _table(result: dict[str, Any]) -> "Table":
    from rich.table import Table

    machine, differences = result["machine"], result["score_differences"]
    table = Table(
        title=f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; median of {result['runs']}",
        title_justify="left",
        caption=f"{differences['compared']:,} scores compared, differing by {differences['largest']:.1e} at most",
        caption_justify="left",
    )
    for name in ("system", "events/s", "CPU s per million", "memory MB"):
        table.add_column(name)
    for name in ("spark", "quixstreams", "plain"):
        figures = result[name]
        columns = (
            f"{figures['events_per_s']:,.0f}",
            f"{figures['cpu_s_per_million']:.1f}",
            f"{figures['rss_mb']:,.0f}",
        )
        table.add_row(name, *columns)
    return table
