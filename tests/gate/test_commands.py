"""`judge`, `promote` and `rollback` as people and DAGs call them, on a real registry."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fraud import registry
from fraud.cli.main import main
from fraud.errors import RefusedError, StateError
from fraud.model import Bundle
from fraud.registry import admission, turn
from fraud.registry.connection import connected
from fraud.registry.verdicts import Recorded, record, recorded
from fraud.settings import Settings
from tests import servers
from tests.gate.worlds import aged, model, simulation
from tests.registry.versions import empty, reset, set_alias, state

pytestmark = pytest.mark.server
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from producer.tables import write_tables

    out = tmp_path_factory.mktemp("judged")
    write_tables(simulation(), out)
    (out / "truth.parquet").unlink()
    return out


@pytest.fixture(scope="module")
def logged(mlflow_server: servers.Server, stack_settings: Settings) -> dict[str, str]:
    """Versions by what they are; nothing else is registered."""
    empty(stack_settings)
    bundles = {
        "old": model(30, 0),
        "new": model(60, 0),
        "equal": model(60, 1),
        "aged": aged(model(60, 0), 31),
        "early": model(50, 0),
        "shuffled": model(60, 1, shuffled=True),
    }
    return {name: log(stack_settings, bundle) for name, bundle in bundles.items()}


def log(settings: Settings, bundle: Bundle) -> str:
    return registry.log_model(settings, bundle, run_name="judged", metrics={}, params={}, tags={}, artifacts={}).version


@pytest.fixture
def versions(logged: dict[str, str], stack_settings: Settings) -> Iterator[dict[str, str]]:
    """The same, none of them in Production, judged or promoted."""
    reset(stack_settings)
    yield logged
    reset(stack_settings)


@pytest.fixture
def run(stack_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name, value in servers.environment(stack_settings).items():
        monkeypatch.setenv(name, value)

    def called(*words: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["fraud-detect", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(out.splitlines()[-1]) if out else None, err

    return called


def tags(settings: Settings, version: str) -> Any:
    return registry.look(settings).versions[version].tags


def promote(settings: Settings, version: str, gate: admission.Gate = admission.judged) -> registry.Move:
    return registry.promote(settings, version, "because", who="ann", at=NOON, gate=gate)


def say_of(
    settings: Settings, version: str, champion: str | None, outcome: str = "promote", kind: str = "better"
) -> None:
    """Record a verdict as `judge` does."""
    said = Recorded(outcome, kind if outcome == "promote" else None, ("so it is",), champion, None, "tables 0")
    with connected(settings) as client:
        record(client, version, said, {}, tags(settings, version))


def test_a_better_one_is_judged_promoted_and_rolled_back(
    versions: dict[str, str], tables: Path, stack_settings: Settings, run: Run
) -> None:
    old, new = versions["old"], versions["new"]
    code, found, _ = run("promote", "--version", old, "--why", "the first", "--json")
    assert (code, found["outcome"], found["kind"]) == (0, "promoted", "first")
    code, found, err = run("judge", "--version", new, "--from", str(tables), "--json")
    assert (code, found["outcome"], found["kind"], found["champion"]) == (0, "promote", "better", old)
    assert found["delta"]["average_precision"]["low"] > 0
    assert found["frauds"] >= 100
    assert all(word in err for word in ("average precision", f"challenger {new}", f"champion {old}", "whole days"))
    known = tags(stack_settings, new)
    assert (known["gate"], known["gate_champion"], known["gate_dataset"]) == ("promote", old, found["dataset"])
    assert known["gate_delta_ap"].startswith("+0.")
    seen = registry.look(stack_settings).versions[new]
    assert (seen.stage, seen.aliases) == ("Staging", ("Staging",))

    code, again, _ = run("judge", "--version", new, "--from", str(tables), "--json")
    assert {**again, "seconds": 0} == {**found, "seconds": 0}

    code, found, _ = run("promote", "--version", new, "--why", "it knows more", "--if-better", "--json")
    assert found == {"version": new, "previous": old, "outcome": "promoted", "kind": "better"}
    assert registry.look(stack_settings).versions[new].aliases == ("Production",)
    assert tags(stack_settings, new)["promoted_kind"] == "better"
    code, repeated, _ = run("judge", "--version", new, "--from", str(tables), "--json")
    assert (code, repeated["outcome"], repeated["kind"]) == (0, "promote", "better")
    code, found, _ = run("promote", "--version", new, "--why", "a retry", "--if-better", "--json")
    assert found == {"version": new, "previous": new, "outcome": "promoted", "kind": "better"}

    assert run("rollback", "--why", "too many alarms")[0] == 0
    assert state(stack_settings)[:2] == (old, [old])
    assert registry.look(stack_settings).reference == old


def test_a_worse_one_is_kept_out_and_can_be_forced(
    versions: dict[str, str], tables: Path, stack_settings: Settings, run: Run
) -> None:
    new, shuffled = versions["new"], versions["shuffled"]
    code, _, err = run("promote", "--version", shuffled)
    assert code == 1
    assert "isn't better than chance in" in err
    promote(stack_settings, new)
    code, _, err = run("promote", "--version", shuffled, "--if-better")
    assert code == 1, "not judged is no verdict"
    code, found, err = run("judge", "--version", shuffled, "--from", str(tables), "--json")
    assert (code, found["outcome"], found["kind"]) == (0, "keep", None)
    assert "the champion stays" in err
    code, _, err = run("promote", "--version", shuffled)
    assert code == 1
    assert f"error: version {shuffled} was judged `keep`: average precision doesn't surely rise" in err
    code, found, _ = run("promote", "--version", shuffled, "--if-better", "--json")
    assert (code, found["outcome"], found["previous"]) == (0, "kept", new)
    assert "isn't better than chance" in found["reasons"][0]
    assert state(stack_settings)[0] == new

    code, found, _ = run("promote", "--version", shuffled, "--why", "an exercise", "--force", "--json")
    assert (code, found["kind"]) == (0, "forced")
    known = tags(stack_settings, shuffled)
    assert known["promoted_why"] == "an exercise"
    assert "was judged `keep`" in known["promoted_over"]
    assert registry.look(stack_settings).reference == new

    assert run("rollback")[0] == 0
    say_of(stack_settings, shuffled, new)
    promote(stack_settings, shuffled)
    assert tags(stack_settings, shuffled)["promoted_kind"] == "better"
    assert "promoted_over" not in tags(stack_settings, shuffled)


def test_an_equal_one_follows_an_old_champion_only(
    versions: dict[str, str], tables: Path, stack_settings: Settings, run: Run
) -> None:
    new, old = versions["new"], versions["aged"]
    promote(stack_settings, new)
    _, found, _ = run("judge", "--version", versions["equal"], "--from", str(tables), "--json")
    assert found["outcome"] == "keep"
    promote(stack_settings, old, admission.by_hand)
    _, found, _ = run("judge", "--version", new, "--from", str(tables), "--json")
    assert (found["outcome"], found["kind"], found["reference"]) == ("promote", "as_good", new)
    promote(stack_settings, new)
    assert tags(stack_settings, new)["promoted_kind"] == "as_good"


def test_a_champion_that_knows_the_rows_decides_nothing(
    versions: dict[str, str], tables: Path, stack_settings: Settings, run: Run
) -> None:
    promote(stack_settings, versions["new"])
    code, found, err = run("judge", "--version", versions["early"], "--from", str(tables), "--json")
    assert (code, found["outcome"]) == (0, "undecided")
    assert "it was trained on" in "; ".join(found["reasons"])
    assert "it stays in Staging" in err
    assert state(stack_settings)[2][versions["early"]] == "Staging"
    code, _, err = run("promote", "--version", versions["early"])
    assert code == 1
    assert "was judged `undecided`" in err


def test_a_verdict_about_another_champion_is_out_of_date(versions: dict[str, str], stack_settings: Settings) -> None:
    old, new, equal = versions["old"], versions["new"], versions["equal"]
    say_of(stack_settings, new, None)
    promote(stack_settings, old)
    with pytest.raises(RefusedError, match=f"judged when nothing was in Production; version {old} is now"):
        promote(stack_settings, new)
    say_of(stack_settings, new, old)
    set_alias(stack_settings, equal)  # somebody moved it in the UI
    with pytest.raises(RefusedError, match=f"judged when version {old} was in Production; version {equal} is now"):
        promote(stack_settings, new)
    assert state(stack_settings)[:2] == (equal, [equal])


def test_of_two_promotions_at_once_one_wins(versions: dict[str, str], stack_settings: Settings) -> None:
    old, new, equal = versions["old"], versions["new"], versions["equal"]
    promote(stack_settings, old)
    for version in (new, equal):
        say_of(stack_settings, version, old)
    results: dict[str, Any] = {}
    start = threading.Barrier(2)

    def go(version: str) -> None:
        start.wait()
        try:
            results[version] = promote(stack_settings, version)
        except RefusedError as exc:
            results[version] = exc

    threads = [threading.Thread(target=go, args=(version,)) for version in (new, equal)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [version for version, result in results.items() if isinstance(result, registry.Move)]
    assert len(won) == 1, results
    (lost,) = {new, equal} - set(won)
    assert f"version {won[0]} is now" in str(results[lost])
    seen = registry.look(stack_settings)
    assert seen.settled
    assert seen.production == won[0]
    assert seen.memory is not None
    assert seen.memory.before == (old,)
    assert state(stack_settings)[2][lost] == "Staging"


def test_a_turn_whose_holder_was_killed_is_taken_over(
    versions: dict[str, str], stack_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(stack_settings) as client:
        client.create_registered_model(turn.TURN, tags={turn.TOKEN: "of a process that is gone"})
        with monkeypatch.context() as patched:
            patched.setattr(turn, "PATIENCE_SECONDS", 0.3)
            with pytest.raises(StateError, match="others have been moving Production"):
                promote(stack_settings, versions["old"])
        monkeypatch.setattr(turn, "ABANDONED_SECONDS", 0.5)
        assert promote(stack_settings, versions["old"]).version == versions["old"]
        assert not client.search_registered_models(f"name='{turn.TURN}'")


def test_an_edited_verdict_says_nothing(versions: dict[str, str], stack_settings: Settings) -> None:
    old, new = versions["old"], versions["new"]
    promote(stack_settings, old)
    say_of(stack_settings, new, old, "keep")
    with connected(stack_settings) as client:
        client.set_model_version_tag(registry.MODEL, new, "gate", "promote")
        with pytest.raises(RefusedError, match="judged `keep`"):
            promote(stack_settings, new)
        client.set_model_version_tag(registry.MODEL, new, "gate_verdict", "{}")
    assert recorded(tags(stack_settings, new)) is None
    with pytest.raises(StateError, match="hasn't been compared"):
        promote(stack_settings, new)


def test_judge_says_what_is_wrong(versions: dict[str, str], tables: Path, stack_settings: Settings, run: Run) -> None:
    code, _, err = run("judge", "--version", "999", "--from", str(tables))
    assert code == 1
    assert "version '999' of fraud-detector doesn't exist" in err
    code, _, err = run(
        "judge", "--version", versions["new"], "--from", str(tables), "--dataset", "s3://lake/datasets/x"
    )
    assert code == 2
    assert "--dataset" in err
    silent = log(stack_settings, replace(model(60, 0), window={}))
    code, _, err = run("judge", "--version", silent, "--from", str(tables))
    assert code == 1
    assert "doesn't say what it was trained on" in err
