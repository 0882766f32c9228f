"""Isolation forest: how few random cuts set the picture apart?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from adlib.contract import DataError, Tick, setting
from adlib.methods._classical import Arrays, Classical

TREES_AT_ONCE = 10  # between two ticks


@dataclass
class IsolationForest(Classical):
    """2^(-E[h] / c): h cuts until x is alone, averaged over trees; c, the same for a random point.

    Source: Liu, Ting and Zhou 2008; the trees are grown by scikit-learn.  Cuts are along single axes, which say little in
    many dimensions, so few are kept.
    """

    METHOD: ClassVar[str] = "Isolation forest"
    LEARNED: ClassVar = {
        "roots": "T", "left": "V", "right": "V", "feature": "V", "threshold": "V", "depth": "V", "typical": (1,)
    }  # fmt: skip

    dimensions: int = setting(
        16, low=0, high=4096, label="Dimensions",
        help="Keeps so many directions of largest variance among the normals; 0 keeps all channels.",
    )  # fmt: skip
    trees: int = setting(200, low=10, high=1000, label="Trees", help="More trees give a steadier score.")

    def _learn(self, rows: np.ndarray, tick: Tick) -> Arrays:
        from sklearn.ensemble import IsolationForest as Fitted

        size = min(256, len(rows))
        forest = Fitted(
            n_estimators=min(TREES_AT_ONCE, self.trees), max_samples=size, random_state=self.seed, warm_start=True
        )
        while True:
            forest.fit(rows.astype(np.float32))
            grown = len(forest.estimators_)
            tick(grown / self.trees, "growing trees: {grown} of {trees}", grown=grown, trees=self.trees)
            if grown >= self.trees:
                break
            forest.set_params(n_estimators=min(grown + TREES_AT_ONCE, self.trees))
        parts: dict[str, list[np.ndarray]] = {name: [] for name in ("left", "right", "feature", "threshold", "depth")}
        roots, start = [], 0
        for estimator in forest.estimators_:
            tree = estimator.tree_
            inner = tree.children_left >= 0
            here = np.arange(start, start + tree.node_count)
            parts["left"].append(np.where(inner, tree.children_left + start, here))  # a leaf leads to itself
            parts["right"].append(np.where(inner, tree.children_right + start, here))
            parts["feature"].append(np.where(inner, tree.feature, 0))
            parts["threshold"].append(np.where(inner, tree.threshold, 0.0))
            parts["depth"].append(_depths(tree.children_left, tree.children_right) + _expected(tree.n_node_samples))
            roots.append(start)
            start += tree.node_count
        arrays = {name: np.concatenate(values) for name, values in parts.items()}
        return {"roots": np.array(roots), **arrays, "typical": _expected(np.array([size]))}

    def _strangeness(self, row: np.ndarray, learned: Arrays) -> float:
        x = row.astype(np.float32)  # as scikit-learn compares
        at = learned["roots"]
        while True:
            goes_left = x[learned["feature"][at]] <= learned["threshold"][at]
            after = np.where(goes_left, learned["left"][at], learned["right"][at])
            if np.array_equal(after, at):
                break
            at = after
        return float(2.0 ** (-learned["depth"][at].mean() / max(learned["typical"][0], 1e-9)))

    def _checked(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        nodes, wide = len(state["left"]), state["axes"].shape[1]
        inside = all(
            not state[name].is_floating_point() and int(state[name].min()) >= 0 and int(state[name].max()) < end
            for name, end in (("roots", nodes), ("left", nodes), ("right", nodes), ("feature", wide))
        )
        onward = inside and all(  # a child comes after its parent, so that every walk ends
            bool((state[name] >= state["left"].new_tensor(range(nodes))).all()) for name in ("left", "right")
        )
        if not onward:
            raise DataError("This is not a state of {method}: its trees are damaged.", method=self.METHOD)
        return state

    def _state_bytes(self, held: int, k: int) -> int:
        return self.trees * (8 + 5 * 8 * 2 * min(256, held))


def _expected(n: np.ndarray) -> np.ndarray:
    """c(n): the mean number of cuts that set a point apart from n - 1 others at random."""
    n = n.astype(np.float64)
    inner = np.maximum(n, 3) - 1
    many = 2 * (np.log(inner) + np.euler_gamma) - 2 * inner / (inner + 1)
    found: np.ndarray = np.where(n <= 1, 0.0, np.where(n == 2, 1.0, many))
    return found


def _depths(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cuts from the root to each node.  Parents come before their children."""
    depth = np.zeros(len(left))
    for node in range(len(left)):
        if left[node] >= 0:
            depth[left[node]] = depth[right[node]] = depth[node] + 1
    return depth
