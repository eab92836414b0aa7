"""The promotion gate, without a registry: evidence from judged rows, and the verdict that follows from it."""

from fraud.gate.decision import Verdict, decide
from fraud.gate.evidence import Comparison, Evidence, Interval, Window, gather, missed_floors
from fraud.gate.rules import Rules

__all__ = ["Comparison", "Evidence", "Interval", "Rules", "Verdict", "Window", "decide", "gather", "missed_floors"]
