"""Empty the platform's topics: a measurement begins with nothing in them."""

import time

from fraud import bus
from fraud.errors import ServiceError
from fraud.settings import Settings

DELETED_SECONDS = 60.0
POLL_SECONDS = 0.1


def recreate(settings: Settings) -> None:
    """Delete the platform's topics and make them again, empty and with new ids.

    Raises:
        ServiceError: Kafka doesn't answer, or a topic is there yet after a minute.
    """
    from kafka.errors import UnknownTopicOrPartitionError

    names = [topic.name for topic in bus.topics(settings)]
    deadline = time.monotonic() + DELETED_SECONDS
    with bus.admin(settings.kafka_bootstrap) as client:
        while present := [name for name in names if name in set(client.list_topics())]:
            if time.monotonic() > deadline:
                raise ServiceError(f"the topics {', '.join(present)} can't be deleted")
            try:
                client.delete_topics(present)
            except UnknownTopicOrPartitionError:
                time.sleep(POLL_SECONDS)  # deleted already, and listed for a moment yet
    bus.ensure_topics(settings)
