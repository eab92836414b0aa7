"""Parity is a law: what the stream said equals what the offline builder says of the same messages.

`check` reads the topics, the online store and the lake, and judges; `offline.must_say` and `comparison.compare`
are pure.
"""

import numpy as np

from fraud import bus
from fraud.backfill import Past
from fraud.parity import topics
from fraud.parity.comparison import Difference, Result, compare
from fraud.parity.kept import kept, merchant_changes
from fraud.parity.offline import must_say
from fraud.settings import Settings

__all__ = ["Difference", "Result", "check"]

DAY_MS = 86_400_000


def check(settings: Settings, past: Past | None, *, limit: int | None = None) -> Result:
    """Compare everything that the topics hold now.

    Where the archive job has been at work the merchants' changes are the lake's.

    Args:
        past: what the online store was loaded with before the stream began.
        limit: only the first so many messages, by the broker's time.

    Raises:
        StateError: there are no such topics, or `transactions` has lost its beginning.
        ServiceError: Kafka, the lake or the online store is away.
        DataError: a prediction can't be read or was made by another release's features.
    """
    bootstrap = settings.kafka_bootstrap
    messages = topics.read_transactions(bootstrap, limit=limit)
    predictions = topics.read_predictions(bootstrap)
    rejections = topics.read_rejections(bootstrap)
    topic = bus.describe(bootstrap, bus.TRANSACTIONS)
    remembered = kept(settings, topic.id, topic.partitions)
    days = settings.max_age_days
    offline = must_say(
        messages,
        past,
        merchant_changes(settings, past) if remembered.archived else None,
        partitions=topic.partitions,
        max_age_ms=None if days is None else round(days * DAY_MS),
        skipped=np.unique(rejections.sources[rejections.reasons == "internal_error"]),
    )
    return compare(offline, predictions, rejections, remembered.among(messages.sources))
