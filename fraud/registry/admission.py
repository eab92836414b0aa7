"""Who may go to Production: what `promote` asks a version before it moves anything."""

from collections.abc import Callable
from dataclasses import dataclass

from fraud.errors import RefusedError, StateError
from fraud.model import Bundle
from fraud.registry.look import Look
from fraud.registry.verdicts import recorded


@dataclass(frozen=True)
class Admission:
    """Why a version is let in.

    Attributes:
        kind: first, better, as_good, forced or manual.
        overruled: what spoke against it, where it was forced.
    """

    kind: str
    overruled: str | None = None


# Asked with the registry's state while nobody else moves Production, the version and its bundle.
Gate = Callable[[Look, str, Bundle], Admission]


def by_hand(seen: Look, version: str, bundle: Bundle) -> Admission:  # noqa: ARG001
    """Let everything in: a person decides, as in MLflow's UI."""
    return Admission("manual" if seen.memory is not None else "first")


def judged(seen: Look, version: str, bundle: Bundle) -> Admission:
    """Let in what the gate's verdict on it lets in; the first model only has to be better than chance.

    Raises:
        RefusedError: the verdict is another, or was about another champion.
        StateError: there is no verdict.
    """
    from fraud.gate import missed_floors  # compiles; the watcher, which imports this package, has no use for it

    said = recorded(seen.versions[version].tags)
    champion = None if seen.memory is None else seen.memory.current
    again = f"`fraud-detect judge --version {version}`"
    if champion is None:
        missed = missed_floors(bundle.metrics)
        if missed:
            raise RefusedError(f"version {version} isn't better than chance in {', '.join(missed)}")
        if said is not None and said.champion is None and said.outcome != "promote":
            raise RefusedError(f"version {version} was judged `{said.outcome}`: {'; '.join(said.reasons)}")
        return Admission("first")
    if said is None:
        raise StateError(f"version {version} hasn't been compared with version {champion}: {again} does it")
    if said.champion != champion:
        before = "nothing was" if said.champion is None else f"version {said.champion} was"
        raise RefusedError(
            f"version {version} was judged when {before} in Production; version {champion} is now: {again} again"
        )
    if said.outcome != "promote" or said.kind is None:
        raise RefusedError(f"version {version} was judged `{said.outcome}`: {'; '.join(said.reasons)}")
    return Admission(said.kind)


def forced(seen: Look, version: str, bundle: Bundle) -> Admission:
    """Let everything in, and keep what the gate said against it."""
    try:
        return judged(seen, version, bundle)
    except StateError as exc:
        return Admission("forced", str(exc))
