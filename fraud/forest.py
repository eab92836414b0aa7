"""A boosted forest as flat arrays and one compiled loop: XGBoost's margins, bit for bit, at a third of the cost.

XGBoost walks one row after the other, and a call costs as much as a hundred rows. Here each tree is walked by 64
rows at once, so that their loads overlap, and without a branch: a row is laid out twice, with -inf and with +inf in
the place of missing values, and a node reads the copy that takes a missing value to its own default side. Leaves
are added in the trees' order in float32, as XGBoost does. Whether that is equal is tried on each booster when it is
loaded (`take_over`); one that can't be laid out, or isn't equal, stays XGBoost's own. This is for the stream: training,
the gate and the artefact that any MLflow client loads use XGBoost itself.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.booster import margins
from fraud.compiled import compiled

Margins = npt.NDArray[np.float32]

ROWS = 64  # that walk a tree at once
TRIED_ROWS = 512


@dataclass(frozen=True)
class Forest:
    """All trees' nodes, one after the other; brothers adjoin.

    Attributes:
        features: shape (nodes,), uint32: the column to compare, + `width` where a missing value goes right.
        thresholds: shape (nodes,), float32: go left below it; a leaf has NaN.
        lefts: shape (nodes,), uint32: the left child, its brother is the next; of a leaf: the node before it.
        values: shape (nodes,), float32: a leaf's.
        roots, depths: shape (trees,), uint32 and int64.
        base: what every sum begins with.
        width: how many columns a matrix has.
    """

    features: npt.NDArray[np.uint32]
    thresholds: npt.NDArray[np.float32]
    lefts: npt.NDArray[np.uint32]
    values: npt.NDArray[np.float32]
    roots: npt.NDArray[np.uint32]
    depths: npt.NDArray[np.int64]
    base: np.float32
    width: int

    def margins(self, matrix: npt.NDArray[np.floating[Any]]) -> Margins:
        """Return the margins (n,) of `matrix` (n, width), NaN = missing; bit-equal whatever n."""
        out, given = np.empty(len(matrix), np.float32), np.ascontiguousarray(matrix)
        _walk(given, self.features, self.thresholds, self.lefts, self.values, self.roots, self.depths, self.base, out)
        return out

    def trying(self, count: int = TRIED_ROWS) -> npt.NDArray[np.float64]:
        """Return rows (count, width) on which a difference would show: thresholds, their neighbours, missing values."""
        rng = np.random.default_rng(0)
        inner = np.flatnonzero(~np.isnan(self.thresholds))
        rows = rng.normal(size=(count, self.width))
        for column in range(self.width):
            known = self.thresholds[inner[self.features[inner] % self.width == column]]
            if len(known):
                drawn = rng.choice(known, count)
                beside = np.nextafter(drawn, np.float32(np.inf) * rng.choice([-1, 1], count).astype(np.float32))
                rows[:, column] = np.where(rng.random(count) < 0.5, drawn, beside)
        rows[rng.random(rows.shape) < 0.2] = np.nan
        return rows


def no_forest() -> Forest:
    """Return one without trees: applying it loads the compiled loop."""
    nodes = np.empty(0, np.uint32)
    values = np.empty(0, np.float32)
    return Forest(nodes, values, nodes, values, nodes, np.empty(0, np.int64), np.float32(0), 1)


def take_over(booster: Any, width: int) -> Forest | None:
    """Lay a booster out and try it on rows where a difference would show; None where there is one."""
    forest = compile_forest(bytes(booster.save_raw("json")), width)
    if forest is None:
        return None
    rows = forest.trying()
    return forest if np.array_equal(forest.margins(rows), margins(booster, rows)) else None


def compile_forest(document: bytes, width: int) -> Forest | None:
    """Lay out a booster, XGBoost's JSON; None where it isn't a plain forest for two classes."""
    learner = json.loads(document)["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree" or learner["objective"]["name"] != "binary:logistic":
        return None
    trees = booster["model"]["trees"]
    if any(tree["categories"] or int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees) or not trees:
        return None
    parts, depths, roots, size = [], [], [], 0
    for tree in trees:
        nodes, depth = _tree(tree, size, width)
        roots.append(size)
        depths.append(depth)
        parts.append(nodes)
        size += len(nodes)
    joined = np.concatenate(parts)
    prior = np.float32(str(learner["learner_model_param"]["base_score"]).strip("[]"))
    return Forest(
        features=np.ascontiguousarray(joined["feature"]),
        thresholds=np.ascontiguousarray(joined["threshold"]),
        lefts=np.ascontiguousarray(joined["left"]),
        values=np.ascontiguousarray(joined["value"]),
        roots=np.array(roots, np.uint32),
        depths=np.array(depths, np.int64),
        base=-np.log(np.float32(1) / prior - np.float32(1)),
        width=width,
    )


_NODE = np.dtype([("feature", "<u4"), ("threshold", "<f4"), ("left", "<u4"), ("value", "<f4")])


def _tree(tree: dict[str, Any], at: int, width: int) -> tuple[npt.NDArray[np.void], int]:
    """Return a tree's nodes, level by level, that will lie from `at` on, and its depth."""
    left, right = tree["left_children"], tree["right_children"]
    order, levels, places = [0], [0], {0: at}
    for node, level in zip(order, levels, strict=False):
        if left[node] >= 0:
            for child in (left[node], right[node]):
                places[child] = at + len(order)
                order.append(child)
                levels.append(level + 1)
    nodes = np.zeros(len(order), _NODE)
    for i, node in enumerate(order):
        condition = tree["split_conditions"][node]
        if left[node] < 0:  # nothing is below NaN: a leaf leads to itself
            nodes[i] = (0, np.nan, max(places[node] - 1, 0), condition)
        else:
            column = tree["split_indices"][node] + (0 if tree["default_left"][node] else width)
            nodes[i] = (column, condition, places[left[node]], 0)
    return nodes, max(levels)


@compiled
def _walk(matrix, features, thresholds, lefts, values, roots, depths, base, out):  # type: ignore[no-untyped-def]
    n, width = matrix.shape
    # Unsigned indices: numba asks each signed one whether it counts from the end.
    rows = np.empty(ROWS * 2 * width, np.float32)
    at = np.empty(ROWS, np.uint32)
    for first in range(0, n, ROWS):
        count = min(ROWS, n - first)
        for i in range(count):
            for j in range(width):
                value = np.float32(matrix[first + i, j])
                missing = value != value
                rows[(2 * i) * width + j] = -np.inf if missing else value
                rows[(2 * i + 1) * width + j] = np.inf if missing else value
            out[first + i] = base
        for tree in range(len(roots)):
            for i in range(count):
                at[i] = roots[tree]
            for _ in range(depths[tree]):
                for i in range(count):
                    node = at[i]
                    left = rows[np.uint32(2 * i * width) + features[node]] < thresholds[node]
                    at[i] = lefts[node] + np.uint32(not left)
            for i in range(count):
                out[first + i] += values[at[i]]
