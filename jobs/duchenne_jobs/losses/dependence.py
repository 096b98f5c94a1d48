"""What the labels of a row say of each other, for smoothing that does not break their dependence (Tallec 2023, 4.5.2).

Shapes: N rows, P distinct label vectors, T tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LabelDependence:
    """q^t(y) = p(y^-t | y^t = 1) / (p(y^-t | y^t = 1) + p(y^-t | y^t = 0)), by one logistic regression a task.

    The posterior of a label given the others, with both of its classes equally likely beforehand. The prior is left out
    so that smoothing goes on rebalancing: where tasks are independent q is 1/2, the uniform label of eq. 4.2. A task
    with one class, and a task alone, have q = 1/2.

    Attributes:
        weights: (T, T), row t of the regression of task t on the others, its diagonal 0.
        bias: (T,).
    """

    weights: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, labels: Tensor) -> LabelDependence:
        """Fit to (N, T) labels in {-1, 0, 1}; an unknown label is left out of its own regression, and is 0 in others.

        scikit-learn's L2 penalty of 1 on the weights keeps tasks that never occur together finite.
        """
        from sklearn.linear_model import LogisticRegression

        patterns, counts = torch.unique(labels, dim=0, return_counts=True)
        tasks = labels.shape[1]
        weights, bias = torch.zeros(tasks, tasks, dtype=torch.float64), torch.zeros(tasks, dtype=torch.float64)
        for task in range(tasks):
            known = patterns[:, task] >= 0
            others = [other for other in range(tasks) if other != task]
            own = patterns[known, task]
            if not others or len(own.unique()) < 2:
                continue
            # Each class weighs as much as the other, and both together as much as there are rows.
            rows = counts[known].double()
            totals = torch.stack([rows[own == value].sum() for value in (0, 1)])
            balance = rows * (totals.sum() / 2 / totals)[own.long()]
            regression = LogisticRegression(max_iter=MAX_ITERATIONS)
            regression.fit(patterns[known][:, others].clamp(min=0).numpy(), own.numpy(), balance.numpy())
            weights[task, others] = torch.from_numpy(regression.coef_[0]).double()
            bias[task] = float(regression.intercept_[0])
        return cls(weights, bias)

    def noise(self, labels: Tensor) -> Tensor:
        """(N, T) hard labels in {0, 1}, 0 where unknown -> (N, T) q, of their dtype."""
        values = labels.double()
        return torch.sigmoid(values @ self.weights.to(values.device).T + self.bias.to(values.device)).to(labels)
