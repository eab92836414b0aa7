"""Judge a registered version against the one in Production, and keep the verdict with it.

The same version, champion and rows give the same verdict: the bootstrap's seed is made from the three.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fraud.errors import ModelError
from fraud.gate import Evidence, Rules, Verdict, decide, gather
from fraud.model import Bundle
from fraud.registry.artefact import fetch
from fraud.registry.connection import connected, no_version
from fraud.registry.look import Look
from fraud.registry.production import look, settle
from fraud.registry.verdicts import Recorded, record, recorded
from fraud.settings import Settings
from fraud.times import format_time

if TYPE_CHECKING:
    from fraud.training import LabelledRows


@dataclass(frozen=True)
class Source:
    """The rows to judge on, and what names them: equal names mean equal rows."""

    rows: "LabelledRows"
    name: str


@dataclass(frozen=True)
class Judged:
    """A verdict with what it was made from.

    Attributes:
        evidence: None where the version is in Production already and nothing was compared.
    """

    version: str
    champion: str | None
    reference: str | None
    verdict: Verdict
    evidence: Evidence | None
    dataset: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the verdict, and the differences with their intervals."""
        found: dict[str, Any] = {
            "version": self.version,
            "outcome": self.verdict.outcome,
            "kind": self.verdict.kind,
            "reasons": list(self.verdict.reasons),
            "champion": self.champion,
            "reference": self.reference,
            "dataset": self.dataset,
        }
        if self.evidence is None:
            return found
        known = asdict(self.evidence)
        against = {name: known.pop(name) for name in ("champion", "reference")}
        known |= {"from": format_time(known.pop("begin")), "to": format_time(known.pop("end"))}
        return found | known | {"delta": against["champion"], "delta_reference": against["reference"]}


def rules_of(settings: Settings) -> Rules:
    """Return the gate's rules with what the settings say."""
    return Rules(frauds=settings.min_judged_frauds, champion_age_days=settings.max_champion_age_days)


def judge(
    settings: Settings, version: str, load: Callable[[Bundle], Source], *, at: datetime, rules: Rules | None = None
) -> Judged:
    """Compare a version with the champion on the same rows, record the verdict, and bring it to Staging.

    Args:
        load: gives the rows for the challenger's bundle.
        at: now.
        rules: default: `rules_of`.

    Raises:
        StateError: there is no such version.
        ModelError: its bundle is unreadable, or says nothing of what it was trained on.
        ServiceError: MLflow or its artefact store is away.
    """
    rules = rules or rules_of(settings)
    seen = look(settings)
    if not seen.settled:
        settle(settings, seen)
        seen = look(settings)
    if version not in seen.versions:
        raise no_version(version)
    champion = seen.production
    if version == champion:
        return _already(seen, version)
    reference = None if seen.reference == champion else seen.reference
    challenger = fetch(settings, version)
    source = load(challenger)
    evidence = gather(
        source.rows, challenger, _bundle(settings, champion), _bundle(settings, reference), rules,
        seed=_seed(seen, version, champion, reference, source.name),
    )  # fmt: skip
    verdict = decide(evidence, rules, first=champion is None)
    said = Recorded(verdict.outcome, verdict.kind, verdict.reasons, champion, reference, source.name)
    judged = Judged(version, champion, reference, verdict, evidence, source.name)
    with connected(settings) as client:
        record(client, version, said, _shown(judged, at), seen.versions[version].tags)
    return judged


def _already(seen: Look, version: str) -> Judged:
    """Return what was said of the version that is in Production, so that a repeated run ends as the first."""
    said = recorded(seen.versions[version].tags)
    if said is None or said.outcome != "promote":
        return Judged(version, version, None, Verdict("promote", None, ("it is in Production already",)), None, None)
    verdict = Verdict("promote", said.kind, said.reasons)  # type: ignore[arg-type]
    return Judged(version, said.champion, said.reference, verdict, None, said.dataset)


def _bundle(settings: Settings, version: str | None) -> Bundle | str | None:
    """Return a model to compare with, or in words why it can't be scored."""
    if version is None:
        return None
    try:
        return fetch(settings, version)
    except ModelError as exc:
        return f"version {version} can't be scored: {exc}"


def _seed(seen: Look, version: str, champion: str | None, reference: str | None, name: str) -> int:
    sums = [seen.versions[v].tags.get("sha256", v) if v is not None else "" for v in (version, champion, reference)]
    return int.from_bytes(hashlib.sha256("\0".join([*sums, name]).encode()).digest()[:8], "big")


def _shown(judged: Judged, at: datetime) -> dict[str, str]:
    """Return the tags for people."""
    evidence = judged.evidence
    shown = {
        "gate_champion": judged.champion or "none",
        "gate_reference": judged.reference or "none",
        "gate_dataset": judged.dataset or "",
        "gate_at": at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    if evidence is None:
        return shown
    shown["gate_rows"] = json.dumps(
        {"rows": evidence.rows, "frauds": evidence.frauds, "days": evidence.days}, separators=(",", ":")
    )
    for name, found in (("", evidence.champion), ("_reference", evidence.reference)):
        if found is not None:
            shown[f"gate_delta_f2{name}"] = str(found.f2)
            shown[f"gate_delta_ap{name}"] = str(found.average_precision)
    return shown
