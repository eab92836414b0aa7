"""The verdict on a challenger: promote it, keep the champion, or say that it can't be decided yet.

Promote when the floors hold, F2 surely doesn't fall by more than 0.01, and either average precision surely
rises, or it surely doesn't fall by more than 0.005, neither against the champion nor against the last model
that was promoted for being better, and the champion is old. The last condition but one stops a drift: a
hundred models, each as good as the one before, can't lose more than 0.005 together.
"""

from dataclasses import dataclass
from typing import Literal

from fraud.gate.evidence import Comparison, Evidence
from fraud.gate.rules import Rules

Outcome = Literal["promote", "keep", "undecided"]
Kind = Literal["first", "better", "as_good"]

MOST_EMPTY_DRAWS = 0.01


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why.

    Attributes:
        kind: what a promotion would be for; None unless the outcome is `promote`.
        reasons: sentences; at least one.
    """

    outcome: Outcome
    kind: Kind | None
    reasons: tuple[str, ...]


def decide(evidence: Evidence, rules: Rules, *, first: bool) -> Verdict:
    """Decide about a challenger.

    Args:
        first: there is no champion: the floors alone count, a comparison isn't possible.
    """
    if first:
        missed = _missed(evidence)
        if missed:
            return Verdict("keep", None, missed)
        return Verdict("promote", "first", ("nothing is in Production, and it is better than chance in every metric",))
    doubts = _doubts(evidence, rules)
    if doubts or evidence.champion is None:
        return Verdict("undecided", None, doubts)
    objections = (*_missed(evidence), *_lost_f2(evidence.champion, rules))
    gain = evidence.champion.average_precision
    if gain.low > 0:
        if objections:
            return Verdict("keep", None, objections)
        return Verdict("promote", "better", (f"average precision surely rises, by {gain}",))
    objections += _not_as_good(evidence, rules)
    if objections:
        return Verdict("keep", None, (f"average precision doesn't surely rise, it changes by {gain}", *objections))
    reason = f"it is as good, average precision changes by {gain}, and the champion is old enough"
    return Verdict("promote", "as_good", (reason,))


def _doubts(evidence: Evidence, rules: Rules) -> tuple[str, ...]:
    """Say why nothing can be decided, if so."""
    found = []
    if evidence.days < rules.days:
        found.append(f"{evidence.days} whole days can be judged, {rules.days} are needed")
    if evidence.frauds < rules.frauds:
        found.append(f"{evidence.frauds} frauds can be judged, {rules.frauds} are needed")
    if evidence.incomparable is not None:
        found.append(f"the champion can't be compared: {evidence.incomparable}")
    if evidence.empty_draws > MOST_EMPTY_DRAWS:
        found.append("the judged frauds come from too few customers or merchants to draw others")
    return tuple(found)


def _missed(evidence: Evidence) -> tuple[str, ...]:
    found = []
    if evidence.missed_floors:
        found.append(f"it isn't better than chance in {', '.join(evidence.missed_floors)}")
    if evidence.above_chance is not None and evidence.above_chance.low <= 0:
        found.append(f"its average precision isn't surely above that of a random order: {evidence.above_chance}")
    return tuple(found)


def _lost_f2(against: Comparison, rules: Rules) -> tuple[str, ...]:
    if against.f2.low >= -rules.f2_loss:
        return ()
    return (f"F2 may fall by more than {rules.f2_loss}: it changes by {against.f2}",)


def _not_as_good(evidence: Evidence, rules: Rules) -> tuple[str, ...]:
    """Say what speaks against a challenger that needn't be better, only as good."""
    found = []
    age = evidence.champion_age_days
    if age is None or age <= rules.champion_age_days:
        shown = "of unknown age" if age is None else f"{age:.1f} days old"
        found.append(f"the champion is {shown}; one as good may follow after {rules.champion_age_days:g}")
    if evidence.champion is not None and evidence.champion.average_precision.low < -rules.ap_loss:
        found.append(f"average precision may fall by more than {rules.ap_loss} against the champion")
    if evidence.no_reference is not None:
        found.append(f"the last model promoted for being better can't be compared: {evidence.no_reference}")
    elif evidence.reference is not None and evidence.reference.average_precision.low < -rules.ap_loss:
        found.append(
            f"average precision may fall by more than {rules.ap_loss} against the last model promoted for being "
            f"better: it changes by {evidence.reference.average_precision}"
        )
    return tuple(found)
