"""Small ensembles of decision trees as plain numbers: read from JSON, evaluated here, no pickle and no scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, model_validator

Node = tuple[int, float, int, int] | float
"""A question (feature, threshold, child if at most the threshold, child if above), or a leaf's value."""


class TreeEnsemble(BaseModel):
    """The mean of trees' leaves.

    Attributes:
        features: Names; a node refers to one by its place.
        trees: Nodes by place, the root first; children stand after their parents, so every walk ends.

    Raises:
        ValueError: If a node refers to a feature or a node that is not there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[str, ...]
    trees: tuple[tuple[Node, ...], ...]

    @model_validator(mode="after")
    def _well_formed(self) -> TreeEnsemble:
        for number, tree in enumerate(self.trees):
            for place, node in enumerate(tree):
                if isinstance(node, tuple) and not (
                    0 <= node[0] < len(self.features) and all(place < child < len(tree) for child in node[2:])
                ):
                    raise ValueError(f"tree {number}, node {place}: no such feature or child, found {node}")
        return self

    def predict(self, values: Mapping[str, float]) -> float:
        """The ensemble's value for an answer's features by name.

        Raises:
            KeyError: If a feature is missing.
        """
        row = [values[name] for name in self.features]
        return sum(_leaf(tree, row) for tree in self.trees) / len(self.trees)


def _leaf(tree: tuple[Node, ...], row: list[float]) -> float:
    node = tree[0]
    while isinstance(node, tuple):
        feature, threshold, low, high = node
        node = tree[low if row[feature] <= threshold else high]
    return node
