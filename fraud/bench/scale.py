"""`bench scale`: does the throughput hold when there are a hundred times as many users?

The same messages are spread over so many copies of each user, each with that user's history, so that lengths, features
and model stay alike and only the store grows. The counts take turns, so a busy moment meets them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fraud.bench.processes import load, machine
from fraud.bench.rig import Rig
from fraud.bench.stream import Plan, drain, summary

Say = Callable[[str], None]


def run(plan: Plan, rig: Rig, copies: Sequence[int], say: Say) -> dict[str, Any]:
    """Drain the plan's events with each number of copies, `plan.runs` times.

    Returns:
        {users: {count: {events_per_s, cpu_s_per_million, rss_mb}}, kept, runs, load, machine}; `kept` is the share of
        the smallest count's throughput that the largest one has.
    """
    before = load()
    users = rig.past.transactions["user_id"].n_unique()
    found: dict[int, list[dict[str, float]]] = {users * count: [] for count in sorted(copies)}
    for number in range(1, plan.runs + 1):
        for count in sorted(copies):
            grown = replace(rig, copies=count)
            grown.reset()
            figures = drain(plan, grown, iter(grown.messages(plan.messages)), grown.job("throughput"))
            found[users * count].append(figures)
            say(f"run {number}: {users * count:,} users: {figures['events_per_s']:,.0f} events/s")
    figures_of = {count: summary(rows) for count, rows in found.items()}
    rates = [figures["events_per_s"] for figures in figures_of.values()]
    return {
        "users": {str(count): figures for count, figures in figures_of.items()},
        "kept": round(rates[-1] / rates[0], 3),
        "runs": plan.runs,
        "load": {"before": before, "after": load()},
        "machine": machine(),
    }
