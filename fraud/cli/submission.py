"""What `train` hands to the registry: figures, facts, report, card, pictures and the search's candidates."""

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fraud.registry import Tried
    from fraud.registry.pending import Submission
    from fraud.training import Parameters, Trained
    from fraud.training.search import Candidate, Search


def submission(trained: "Trained", result: dict[str, Any], asked: dict[str, Any]) -> "Submission":
    """Return what becomes a version.

    Args:
        trained: the training.
        result: as the command prints it.
        asked: names the training; its `rows`, `seed` and `candidates` are told.
    """
    from fraud.registry import TRAINING
    from fraud.registry.pending import Submission, training_key
    from fraud.revision import revision
    from fraud.training.card import model_card
    from fraud.training.plots import plots

    code, key = revision(), training_key(asked)
    facts = {"as_of": result["as_of"], "data": asked["rows"], "seed": asked["seed"], "revision": code}
    artifacts = {
        "report.json": json.dumps(result, indent=2).encode(),
        "model_card.md": model_card(result, facts | dict(trained.bundle.params)).encode(),
        **plots(trained),
    }
    if trained.search is not None:
        artifacts["candidates.json"] = json.dumps(trained.search.to_dict(), indent=2).encode()
    params = {**trained.bundle.params, "candidates": asked["candidates"], "seed": asked["seed"]}
    return Submission(
        key=key,
        bundle=trained.bundle.to_bytes(),
        result=result,
        run_name=f"train as of {result['as_of']}",
        metrics=_metrics(result),
        params={name: str(value) for name, value in params.items()},
        tags={"as_of": result["as_of"], "from": asked["rows"][:200], TRAINING: key, "revision": code},
        artifacts=artifacts,
        candidates=() if trained.search is None else tuple(_tried(trained.search)),
    )


def _metrics(result: dict[str, Any]) -> dict[str, float]:
    """Return every figure of the report under a name of its own."""
    named = {f"{name}_floor": value for name, value in result["floors"].items()}
    named |= {f"{name}_oracle": value for name, value in result["oracles"].items()}
    named |= {f"confusion_{name}": float(count) for name, count in result["confusion"].items()}
    return {**result["metrics"], **named}


def _tried(search: "Search") -> "list[Tried]":
    """Return the candidates in the order of their trial and, where it was compared with them, the default."""
    whole = {each.parameters: each for each in search.finals}
    tried = [_one(each, whole.pop(each.parameters, None), search.best) for each in search.candidates]
    return [*tried, *(_one(None, each, search.best) for each in whole.values())]


def _one(candidate: "Candidate | None", finalist: "Candidate | None", best: "Parameters") -> "Tried":
    """Return one set of parameters with the scores that the search and the finals gave it."""
    from fraud.registry import Tried

    parameters = next(each.parameters for each in (candidate, finalist) if each is not None)
    figures: dict[str, float] = {}
    for each, of in ((candidate, ""), (finalist, "_all_rows")):
        if each is not None:
            by_fold = {f"average_precision{of}_fold_{fold}": score for fold, score in enumerate(each.scores, 1)}
            figures |= {f"average_precision{of}": each.mean, **by_fold}
    if candidate is not None and candidate.seconds is not None:
        figures["seconds"] = candidate.seconds
    return Tried(
        params={name: str(value) for name, value in parameters.to_dict().items()},
        metrics={name: value for name, value in figures.items() if not math.isnan(value)},
        failed=any(each is not None and each.failed for each in (candidate, finalist)),
        best=parameters == best,
        default=candidate is None,
    )
