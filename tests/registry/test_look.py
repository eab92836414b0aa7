"""The rule of alias, stage and memory, case by case, without a server."""

import pytest

from fraud.registry.look import KIND, Look, Memory, Version

CASES = {
    # name: (remembered, alias, versions staged in order of the move, expected)
    "nothing anywhere": (None, None, [], None),
    "cold start: the alias before the stage": (None, "1", ["2"], "1"),
    "cold start: the stage alone": (None, None, ["2"], "2"),
    "cold start: of several stages the newest move": (None, None, ["3", "1"], "1"),
    "nothing moved": ("1", "1", ["1"], "1"),
    "the alias moved": ("1", "2", ["1"], "2"),
    "the stage moved": ("1", "1", ["2"], "2"),
    "the stage moved, the former one wasn't archived": ("3", "3", ["3", "2"], "2"),
    "the same, but somebody edited the former one later": ("3", "3", ["2", "3"], "2"),
    "both moved: the alias": ("1", "2", ["3"], "2"),
    "the alias was taken away": ("1", None, ["1"], "1"),
    "the stage was taken away": ("1", "1", [], "1"),
    "the alias was taken away and the stage moved": ("1", None, ["2"], "2"),
    "both were taken away": ("1", None, [], None),
}


def look(remembered: str | None, alias: str | None, staged: list[str]) -> Look:
    versions = {
        name: Version(name, "Production" if name in staged else "None", (), 0, 1 + staged.index(name), "", {})
        if name in staged
        else Version(name, "None", (), 0, 0, "", {})
        for name in ("1", "2", "3")
    }
    return Look(versions, alias, None if remembered is None else Memory(remembered))


@pytest.mark.parametrize("case", CASES)
def test_which_version_belongs_in_production(case: str) -> None:
    *given, expected = CASES[case]
    assert look(*given).production == expected  # type: ignore[arg-type]


def test_settled_means_that_all_three_agree() -> None:
    assert look("1", "1", ["1"]).settled
    for given in [("2", "1", ["1"]), (None, "1", ["1"]), ("1", "1", ["1", "2"]), ("1", None, ["1"]), ("1", "1", [])]:
        assert not look(*given).settled, given


REFERENCES = {
    # name: (history up to what is in Production, kind of each, expected)
    "the first": (["1"], {"1": "first"}, "1"),
    "the better one": (["1", "2"], {"1": "first", "2": "better"}, "2"),
    "as good ones don't raise the bar": (["1", "2", "3"], {"1": "better", "2": "as_good", "3": "as_good"}, "1"),
    "nor do people": (["1", "2", "3"], {"1": "first", "2": "forced", "3": "manual"}, "1"),
    "where nobody raised it, the first": (["2", "3"], {"3": "as_good"}, "2"),
    "a deleted one is passed over": (["1", "9", "3"], {"1": "first", "3": "as_good"}, "1"),
    "what was rolled back doesn't count": (["1"], {"1": "first", "2": "better"}, "1"),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_the_reference_is_the_last_one_promoted_for_being_better(case: str) -> None:
    history, kinds, expected = REFERENCES[case]
    versions = {
        name: Version(name, "None", (), 0, 0, "", {KIND: kinds[name]} if name in kinds else {})
        for name in ("1", "2", "3")
    }
    assert Look(versions, None, Memory(history[-1], tuple(history[:-1]))).reference == expected
    assert Look(versions, None, None).reference is None
