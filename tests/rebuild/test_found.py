"""What counts for the topic as it is now: answers about another topic of its name say nothing of it."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fraud import bus
from fraud.lake.tables import REJECTIONS
from fraud.rebuild.found import find
from tests import servers
from tests.lake.rows import lake_in

pytestmark = pytest.mark.server

BEFORE = datetime(2026, 1, 5, tzinfo=UTC)


def rejections(count: int) -> pa.Table:
    """Rejections of partition 0's first offsets, from a broker that is gone."""
    known: dict[str, Any] = {
        "date": date(2026, 1, 5),
        "topic_id": "gone",
        "broker_time": BEFORE,
        "rejected_at": BEFORE,
        "reason": "json",
        "source_topic": bus.TRANSACTIONS,
        "source_partition": 0,
        "partition": 0,
    }
    rows = [{**known, "offset": i, "source_offset": i, "query": "q", "batch": 0} for i in range(count)]
    return pa.Table.from_pylist(rows, schema=REJECTIONS.schema)


def test_rejections_of_a_topic_that_is_gone_move_no_position_of_the_new_one(tmp_path: Path) -> None:
    settings = servers.settings(tmp_path)
    lake = lake_in(tmp_path)
    lake.append(REJECTIONS, rejections(7), query="q", batch=0)
    with servers.running_kafka(settings):
        bus.ensure_topics(settings)
        topic = bus.describe(settings.kafka_bootstrap, bus.TRANSACTIONS)
        found = find(settings.kafka_bootstrap, lake, topic)
    assert {number: one.position for number, one in found.reached.items()} == {0: 0, 1: 0}
