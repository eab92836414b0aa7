"""What the gate asks for; the first four figures are the contract's, two more are settings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """How sure the gate wants to be.

    Attributes:
        f2_loss: the most of F2 that may be lost, at the lower end of the interval.
        ap_loss: the most of average precision that a challenger that is as good may lose, likewise.
        days: whole days with judged rows; the week's rhythm must be in them.
        frauds: judged frauds.
        champion_age_days: a champion older than this gives way to one that is as good.
        draws: of the bootstrap.
        confidence: of its two-sided intervals.
    """

    f2_loss: float = 0.01
    ap_loss: float = 0.005
    days: int = 7
    frauds: int = 100
    champion_age_days: float = 30.0
    draws: int = 1_000
    confidence: float = 0.95
