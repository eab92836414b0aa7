"""What lake and topics say of the current topic `transactions`: who was accepted, what was answered, up to where."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl

from fraud import bus, ranges
from fraud.lake import Lake, reading
from fraud.lake.read import accepted
from fraud.lake.tables import PREDICTIONS, PROFILE_CHANGES, REJECTIONS, TRANSACTIONS, Table
from fraud.rebuild.positions import Reached, reached
from fraud.rebuild.tails import SOURCE, tail

# Of the table `transactions`: all but what the archive job adds.
COLUMNS = [name for name in TRANSACTIONS.schema.names if name not in ("date", "query", "batch")]
_WHOSE = ["user_id", "transaction_id"]
_AT = {"source_partition": "partition", "source_offset": "offset"}


@dataclass(frozen=True)
class Found:
    """What is to be loaded.

    Attributes:
        accepted: the accepted transactions below the positions and of what came before the topic, columns COLUMNS.
        reached: partition → where it goes on.
        collected: partition → the offset ranges below it that were accepted without a model.
    """

    accepted: pl.LazyFrame
    reached: Mapping[int, Reached]
    collected: Mapping[int, ranges.Ranges]


def find(bootstrap: str, lake: Lake, topic: bus.TopicState) -> Found:
    """Read lake and topics.

    An answer counts if it is about the transaction that stands at its source: a topic that was made anew has
    other ones at the same offsets.

    Raises:
        StateError: a topic is missing. ServiceError: Kafka or S3 is away. DataError: a table is damaged.
    """
    cut = lake.cut()
    fresh = tail(bootstrap, lake, TRANSACTIONS, COLUMNS)
    mine = pl.col("topic_id") == topic.id
    archived = lake.at(TRANSACTIONS, cut).select(COLUMNS)
    sent = pl.concat([archived.filter(mine), fresh.lazy()])
    with reading(f"the lake {lake.place.uri}"):
        predicted = (
            _both(bootstrap, lake, cut, PREDICTIONS, [*_AT, *_WHOSE])
            .rename(_AT)
            .join(sent.select(*SOURCE, *_WHOSE), on=[*SOURCE, *_WHOSE], how="semi")
            .select(SOURCE)
            .unique()
            .collect(engine="streaming")
        )
        since = sent.select(pl.col("broker_time").min()).collect().item()
        refused = _both(bootstrap, lake, cut, REJECTIONS, [*_AT, "source_topic", "broker_time"]).filter(
            pl.col("source_topic") == TRANSACTIONS.topic
        )
        # A rejection doesn't say of which topic of that name its source was: what is older than this topic's first
        # accepted transaction was about another one, and where there is none, everything was.
        refused = refused.limit(0) if since is None else refused.filter(pl.col("broker_time") >= since)
        rejected = refused.rename(_AT).select(SOURCE).unique().collect()
        counted = (
            lake.at(PROFILE_CHANGES, cut)
            .filter(mine & (pl.col("transactions") == 1) & (pl.col("cause") == TRANSACTIONS.topic))
            .select(SOURCE)
            .unique()
            .collect()
        )
    answered = pl.concat([predicted, rejected, counted])
    begins = bus.begin_offsets(bootstrap, topic.name)
    at = {
        number: reached(
            answered.filter(pl.col("partition") == number)["offset"].to_numpy(),
            begin=begins[number],
            readable=partial(bus.readable_between, bootstrap, topic.name, number),
        )
        for number in range(topic.partitions)
    }
    below = pl.any_horizontal(
        (pl.col("partition") == number) & (pl.col("offset") < one.position) for number, one in at.items()
    )
    taken = pl.concat([predicted, counted]).unique().filter(below)
    without = counted.join(predicted, on=SOURCE, how="anti").filter(below).sort(SOURCE)
    return Found(
        pl.concat([accepted(lake, cut).filter(~mine).select(COLUMNS), sent.join(taken.lazy(), on=SOURCE, how="semi")]),
        at,
        {
            number: ranges.of(without.filter(pl.col("partition") == number)["offset"].to_numpy())
            for number in range(topic.partitions)
        },
    )


def _both(bootstrap: str, lake: Lake, cut: Mapping[str, int], table: Table, columns: list[str]) -> pl.LazyFrame:
    """Return a table's rows and those that it will get."""
    fresh = tail(bootstrap, lake, table, [*SOURCE, *columns]).select(columns)
    return pl.concat([lake.at(table, cut).select(columns), fresh.lazy()])
