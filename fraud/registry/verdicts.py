"""A verdict as a version carries it: one tag for the gate, and some for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from fraud.registry.connection import MODEL

if TYPE_CHECKING:
    from mlflow import MlflowClient

VERDICT = "gate_verdict"  # what a promotion goes by: read and written as a whole
STAGING = "Staging"
LONGEST = 4_000  # characters of one tag that people read


class Recorded(msgspec.Struct, frozen=True):
    """What was said of a version, and of which comparison.

    Attributes:
        outcome: promote, keep or undecided.
        kind: what a promotion would be for: first, better or as_good; None where it isn't one.
        champion: the version in Production at the time; None: there was none.
        dataset: names the judged rows.
    """

    outcome: str
    kind: str | None
    reasons: tuple[str, ...]
    champion: str | None
    reference: str | None
    dataset: str


def recorded(tags: Mapping[str, str]) -> Recorded | None:
    """Read a version's tags; one that was edited by hand says nothing."""
    try:
        return msgspec.json.decode(tags.get(VERDICT, ""), type=Recorded)
    except msgspec.MsgspecError:
        return None


def record(
    client: "MlflowClient", version: str, said: Recorded, shown: Mapping[str, str], known: Mapping[str, str]
) -> None:
    """Tag a version with a verdict and its figures, and bring it to Staging, stage and alias.

    The verdict is written first and at once; the rest is for people.

    Args:
        shown: more tags, named gate_….
        known: the version's tags; those of an earlier verdict that aren't written again are removed.

    MLflow's errors pass through.
    """
    client.set_model_version_tag(MODEL, version, VERDICT, msgspec.json.encode(said).decode())
    tags = {"gate": said.outcome, "gate_reason": "; ".join(said.reasons), **shown}
    for name, value in tags.items():
        client.set_model_version_tag(MODEL, version, name, value[:LONGEST])
    for name in known:
        if name.startswith("gate_") and name != VERDICT and name not in tags:
            client.delete_model_version_tag(MODEL, version, name)
    client.set_registered_model_alias(MODEL, STAGING, version)
    client.transition_model_version_stage(MODEL, version, STAGING)
