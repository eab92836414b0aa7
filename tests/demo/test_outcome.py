"""The demo's report counts what the topics hold, and nothing twice."""

import pytest

from fraud.demo.outcome import Outcome, Scored, Source, recall_of, report


def scored(offset: int, probability: float, version: str = "1", flagged: int = 0) -> Scored:
    return Scored(Source(0, offset), f"t{offset}", "u", probability, flagged, version)


def outcome() -> Outcome:
    found = Outcome(arrived={(0, n): 1_000 + n for n in range(6)})
    found.scored = {
        (0, 0): (1_100, scored(0, 0.9, flagged=1)),
        (0, 1): (1_151, scored(1, 0.2)),
        (0, 2): (1_252, scored(2, 0.8, "2", flagged=1)),
        (0, 3): (1_403, scored(3, 0.1, "2")),
    }
    found.rejected = {(0, 4): "schema"}
    found.duplicates = 2
    return found


TRUTH = {"t0": "stolen_card", "t1": None, "t2": None, "t3": "fake_shops"}


def test_every_message_is_scored_rejected_or_missing() -> None:
    found = outcome()
    assert found.missing() == 1
    told = report(found, 6, TRUTH, {"1": 900, "2": 1_200}, 512.0)
    assert (told["produced"], told["scored"], told["rejected"], told["missing"]) == (6, 4, 1, 1)
    assert told["duplicates"] == 2


def test_an_offset_that_was_scored_and_rejected_counts_once() -> None:
    found = outcome()
    found.rejected[0, 0] = "duplicate"
    assert found.missing() == 1
    assert report(found, 6, TRUTH, {"1": 900}, 0.0)["missing"] == 1


def test_a_swap_lasts_from_the_promotion_to_the_versions_first_prediction() -> None:
    told = report(outcome(), 6, TRUTH, {"1": 900, "2": 1_200}, 0.0)
    assert told["model_versions"] == ["1", "2"]
    assert told["swap_seconds"] == pytest.approx(0.052, abs=0.01)
    assert report(outcome(), 6, TRUTH, {"1": 900}, 0.0)["swap_seconds"] is None


def test_quality_is_judged_at_the_predictions_own_threshold() -> None:
    told = report(outcome(), 6, TRUTH, {"1": 900}, 0.0)
    assert (told["recall"], told["precision"]) == (0.5, 0.5)
    # Ranked 0.9 fraud, 0.8, 0.2, 0.1 fraud: (1/1 + 2/4) / 2.
    assert told["average_precision"]["value"] == pytest.approx(0.75)
    assert told["average_precision"]["oracle"] == 1.0


def test_latency_is_the_brokers_time_from_message_to_prediction() -> None:
    assert report(outcome(), 6, TRUTH, {"1": 900}, 0.0)["latency_ms"]["p50"] == 200.0


def test_a_run_without_a_prediction_is_reported_too() -> None:
    told = report(Outcome(arrived={(0, 0): 1_000}), 1, TRUTH, {"1": 900}, 0.0)
    assert (told["missing"], told["scored"], told["latency_ms"]["p99"]) == (1, 0, None)
    assert told["average_precision"] == {"value": 0.0, "floor": 0.0, "oracle": 0.0}


def test_the_new_patterns_recall_is_that_of_the_first_and_of_the_last_version() -> None:
    found = Outcome(arrived={(0, n): 1_000 for n in range(9)})
    flagged = {0: ("1", 0), 1: ("1", 0), 2: ("1", 1), 3: ("1", 0), 4: ("2", 1), 5: ("2", 1), 6: ("2", 0), 7: ("2", 1)}
    found.scored = {(0, n): (1_100, scored(n, 0.5, version, flag)) for n, (version, flag) in flagged.items()}
    truth = {f"t{n}": "fake_shops" for n in range(7)} | {"t7": "stolen_card"}
    told = recall_of(found, truth, "fake_shops", {"1": 900, "2": 1_000})
    assert told == {
        "recall_new_pattern_before": 0.25,
        "recall_new_pattern_after": 0.6667,
        "new_pattern": {
            "name": "fake_shops",
            "before": {"frauds": 4, "found": 1},
            "after": {"frauds": 3, "found": 2},
        },
    }


def test_a_version_that_met_none_of_the_pattern_has_no_recall_of_it() -> None:
    told = recall_of(outcome(), TRUTH, "fake_shops", {"1": 900})
    assert (told["recall_new_pattern_before"], told["recall_new_pattern_after"]) == (None, None)
