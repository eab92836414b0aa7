"""Production moves forward and back, alias and stage together, whatever was interrupted."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from mlflow import MlflowClient

from fraud import registry
from fraud.cli.main import main
from fraud.errors import ModelError, StateError
from fraud.settings import Settings
from tests import servers
from tests.registry.broken import break_bundle
from tests.registry.versions import log_version, set_alias, set_stage, state

pytestmark = pytest.mark.server
NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
Three = list[registry.RegisteredVersion]


def promote(settings: Settings, version: str | None = None) -> registry.Move:
    return registry.promote(settings, version, "better", who="ann", at=NOON)


def rollback(settings: Settings) -> registry.Move:
    return registry.rollback(settings, "worse", who="ann", at=NOON)


def test_a_promotion_sets_alias_and_stage_and_says_why(three: Three, stack_settings: Settings) -> None:
    one, two, newest = (entry.version for entry in three)
    assert promote(stack_settings, one) == registry.Move(one, None, "first")
    assert promote(stack_settings) == registry.Move(newest, one, "manual")
    assert state(stack_settings) == (newest, [newest], {one: "Archived", two: "None", newest: "Production"})
    tags = registry.look(stack_settings).versions[newest].tags
    assert (tags["promoted_why"], tags["promoted_by"], tags["promoted_at"]) == ("better", "ann", "2026-02-01T12:00:00Z")
    assert promote(stack_settings, newest) == registry.Move(newest, newest, "manual")
    with pytest.raises(StateError, match="version '99' of fraud-detector doesn't exist"):
        promote(stack_settings, "99")


def test_rollbacks_walk_back_to_the_first(three: Three, stack_settings: Settings) -> None:
    one, two, newest = (entry.version for entry in three)
    with pytest.raises(StateError, match="nothing to go back to"):
        rollback(stack_settings)
    for version in (one, two, newest):
        promote(stack_settings, version)
    assert rollback(stack_settings) == registry.Move(two, newest)
    assert rollback(stack_settings) == registry.Move(one, two)
    assert state(stack_settings)[:2] == (one, [one])
    with pytest.raises(StateError, match="nothing to go back to"):
        rollback(stack_settings)
    promote(stack_settings, newest)
    assert rollback(stack_settings) == registry.Move(one, newest)


def test_moves_made_in_the_ui_count(three: Three, stack_settings: Settings) -> None:
    one, two, newest = (entry.version for entry in three)
    promote(stack_settings, one)
    set_alias(stack_settings, two)
    assert promote(stack_settings, newest) == registry.Move(newest, two, "manual")
    set_stage(stack_settings, one, archive=False)
    assert rollback(stack_settings) == registry.Move(newest, one)
    assert rollback(stack_settings) == registry.Move(two, newest)
    assert state(stack_settings)[:2] == (two, [two])


class Crash(BaseException):
    """The process ends."""


def crash_at(monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """End the process at the `write`-th change of the registry, counted from 0."""
    left = [write]

    def failing(name: str) -> None:
        real = getattr(MlflowClient, name)

        def call(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Crash
            return real(self, *args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, call)

    for name in ("set_registered_model_tag", "set_registered_model_alias", "transition_model_version_stage"):
        failing(name)


@pytest.mark.parametrize("mended_by", ["repeating it", "the watcher's look"])
def test_what_a_crash_left_half_done_is_mended(
    mended_by: str, three: Three, stack_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, newest = (entry.version for entry in three)
    settings = stack_settings
    promote(settings, one)
    promote(settings, two)
    for write in range(5):
        for go, target in ((promote, newest), (rollback, two)):
            with monkeypatch.context() as patched:
                crash_at(patched, write)
                try:
                    go(settings)
                    done = True
                except Crash:
                    done = False
            moved = registry.look(settings).production == target
            if not done and mended_by == "repeating it":
                go(settings)
            elif not done:
                registry.settle(settings, registry.look(settings))
                if not moved:
                    go(settings)
            seen = registry.look(settings)
            assert seen.settled
            assert seen.production == target, (go.__name__, write)
            assert seen.memory is not None
            assert seen.memory.before == ((one, two) if go is promote else (one,)), (go.__name__, write)
    assert done, "the last pass should have been without a crash"


@pytest.mark.parametrize("how", ["missing file", "other features", "corrupt booster"])
def test_an_unreadable_bundle_is_not_promoted(how: str, three: Three, stack_settings: Settings) -> None:
    one = three[0].version
    promote(stack_settings, one)
    broken = log_version(stack_settings, 9)
    break_bundle(stack_settings, broken.model_id, how)
    reason = {"missing file": "lacks model.ubj", "other features": "other feature names", "corrupt booster": "corrupt"}
    with pytest.raises(ModelError, match=reason[how]):
        promote(stack_settings, broken.version)
    assert state(stack_settings)[:2] == (one, [one])


def test_files_that_were_exchanged_are_refused(three: Three, stack_settings: Settings) -> None:
    from tests.bundles import tiny_bundle
    from tests.registry.broken import mend_bundle

    changed = log_version(stack_settings, 10)
    mend_bundle(stack_settings, changed.model_id, tiny_bundle(review=0.1))
    with pytest.raises(ModelError, match="somebody changed them"):
        registry.fetch(stack_settings, changed.version)


def test_the_command_line_lists_promotes_and_rolls_back(
    three: Three, stack_settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, _ = (entry.version for entry in three)
    for name, value in servers.environment(stack_settings).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["fraud-detect", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    promote(stack_settings, one)
    code, out, err = run("promote", "--version", two, "--why", "tried", "--json")
    assert (code, out) == (1, "")
    assert f"version {two} hasn't been compared with version {one}: `fraud-detect judge --version {two}`" in err
    code, out, _ = run("promote", "--version", two, "--why", "tried", "--force", "--json")
    said = {"version": two, "previous": one, "outcome": "promoted", "kind": "forced"}
    assert (code, json.loads(out)) == (0, said)
    code, out, _ = run("models", "--json")
    rows = {row["version"]: row for row in json.loads(out)["versions"]}
    assert code == 0
    assert rows[two]["aliases"] == ["Production"]
    assert rows[one]["stage"] == "Archived"
    assert rows[two]["metrics"]["average_precision"] == 0.7
    _, out, err = run("models")
    assert out == ""
    assert all(word in err for word in ("Archived", "0.700", "2026-01-01 to 2026-01-20"))
    code, out, err = run("rollback")
    assert (code, out) == (0, "")
    assert f"version {one} is in Production; before it, version {two} was" in err
    code, _, err = run("rollback")
    assert code == 1
    assert "nothing to go back to" in err
