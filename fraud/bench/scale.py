"""`bench scale`: does the throughput hold with a hundred times as many users, and with histories seven times as long?

The same messages are spread over so many copies of each user, each with that user's history, so that lengths, features
and model stay alike and only the store grows. Or each entry of a history stands there several times, up to 512, and the
messages follow each other as many times more closely, so that only lengths grow, and stay. The variants take turns, so
a busy moment meets them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fraud.bench.population import PLAIN, Population
from fraud.bench.processes import load, machine
from fraud.bench.rig import Rig
from fraud.bench.stream import Plan, drain, hold, summary

Say = Callable[[str], None]


def run(plan: Plan, rig: Rig, copies: Sequence[int], longer: Sequence[int], say: Say) -> dict[str, Any]:
    """Drain the plan's events with more users and with longer histories, and hold its rates, `plan.runs` times.

    Args:
        copies: of each user; each number is a variant. 1 is one always, the plain one.
        longer: how many times each entry stands in a history; likewise.

    Returns:
        {users: {count: figures}, entries: {median length: figures}, kept: {users, entries}, runs, load, machine}.
        figures: {events_per_s, cpu_s_per_million, rss_mb, paced: {rate: {p50, p99, …}}}; `kept` is the share of the
        plain variant's throughput that the last one has.
    """
    before = load()
    people = {count: Population(copies=count) for count in sorted({1, *copies})}
    lengths = {times: Population(longer=times) for times in sorted({1, *longer})}
    variants = list(dict.fromkeys([*people.values(), *lengths.values()]))
    drains: dict[Population, list[dict[str, float]]] = {variant: [] for variant in variants}
    paced: dict[Population, list[dict[int, dict[str, float]]]] = {variant: [] for variant in variants}
    entries: dict[int, int] = {}  # by `longer`; copies have their users'
    users = rig.past.transactions["user_id"].n_unique()
    for number in range(1, plan.runs + 1):
        for variant in variants:
            grown = replace(rig, population=variant)
            grown.reset()
            if variant.longer not in entries:
                entries[variant.longer] = grown.median_entries()
            messages = iter(grown.messages(plan.messages))
            drains[variant].append(drain(plan, grown, messages, grown.job("throughput")))
            say(
                f"run {number}: {users * variant.copies:,} users, {entries[variant.longer]} entries in the median: "
                f"{drains[variant][-1]['events_per_s']:,.0f} events/s"
            )
            paced[variant].append(hold(plan, grown, messages, say))
    figures = {
        variant: summary(drains[variant])
        | {"paced": {str(rate): summary([each[rate] for each in paced[variant]]) for rate in plan.rates}}
        for variant in variants
    }
    rate = {variant: row["events_per_s"] for variant, row in figures.items()}
    return {
        "users": {str(users * count): figures[variant] for count, variant in people.items()},
        "entries": {str(entries[times]): figures[variant] for times, variant in lengths.items()},
        "kept": {
            "users": round(rate[people[max(people)]] / rate[PLAIN], 3),
            "entries": round(rate[lengths[max(lengths)]] / rate[PLAIN], 3),
        },
        "runs": plan.runs,
        "load": {"before": before, "after": load()},
        "machine": machine(),
    }
