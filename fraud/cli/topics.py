"""`topics`: make the platform's topics on a Kafka that `up` didn't start."""

from fraud.cli.console import emit, quiet_kafka, say, settings
from fraud.cli.data import Json
from fraud.cli.main import app


@app.command()
def topics(as_json: Json = False) -> None:
    """Create the topics that are missing; say how existing ones differ from what they should be.

    For a Kafka of your own; `up` does it by itself. Nothing that exists is changed: a difference is a warning, and
    the jobs refuse what would be wrong (another number of partitions).
    """
    from fraud import bus

    quiet_kafka()
    chosen = settings()
    differences = bus.ensure_topics(chosen)
    names = [topic.name for topic in bus.topics(chosen)]
    if as_json:
        emit({"topics": names, "differences": differences})
        return
    say(f"{', '.join(names)} are there")
    for told in differences:
        say(f"warning: {told}")
