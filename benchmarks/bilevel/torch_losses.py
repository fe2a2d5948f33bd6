"""The standard problems in PyTorch, on the same numbers: full-batch losses `(weights, alpha) -> []`.

Weights and alpha are lists of tensors, the leaves of the pytrees in their order. `tests/test_bilevel_benchmark.py`
compares the losses with ours.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch.nn import functional

from benchmarks.bilevel.cases import Case

Tensors = list[torch.Tensor]


class TorchProblem(NamedTuple):
  """Attributes:
  inner, outer: the losses.
  weights, alpha: the start.
  """

  inner: Callable[[Tensors, Tensors], torch.Tensor]
  outer: Callable[[Tensors, Tensors], torch.Tensor]
  weights: Tensors
  alpha: Tensors


def in_torch(case: Case) -> TorchProblem:
  """The problem of a case."""
  problem = case.problem
  train, validation = (
    {name: _tensor(leaf) for name, leaf in data.items()} for data in (problem.train, problem.validation)
  )
  inner, outer = _LOSSES[case.kind](case, train, validation)
  start = [[_tensor(leaf) for leaf in jax.tree.leaves(tree)] for tree in (problem.weights, problem.alpha)]
  return TorchProblem(inner, outer, *start)


def _tensor(leaf: Any) -> torch.Tensor:
  array = np.array(leaf)
  return torch.from_numpy(array.astype(np.int64) if array.dtype.kind == "i" else array)


def _quadratic(case, train, validation):
  problem, weights, alpha = case.problem.problem, case.problem.weights, case.problem.alpha
  second = jax.hessian(problem.inner_loss, argnums=(0, 1))(weights, alpha, case.problem.train)
  hessian, cross, pull = _tensor(second[0][0]), _tensor(-second[0][1]), train["pull"].mean(0)
  penalty = _tensor(jax.hessian(problem.outer_loss, argnums=1)(weights, alpha, case.problem.validation))[0, 0]
  best, target = _tensor(case.problem.solution[1]), validation["target"]
  return (
    lambda w, a: 0.5 * w[0] @ (hessian @ w[0]) - w[0] @ (cross @ a[0] + pull),
    lambda w, a: 0.5 * ((w[0] - target) ** 2).sum(1).mean() + 0.5 * penalty * ((a[0] - best) ** 2).sum(),
  )


def _random_quadratic(case, train, validation):
  def loss(w, a, data):
    curved = 0.5 * (data["u"] @ w[0]) ** 2 + 0.5 * (data["s"] @ a[0]) ** 2
    return (curved + (data["l"] @ a[0]) * (data["r"] @ w[0]) + data["p"] @ w[0] + data["q"] @ a[0]).mean()

  return lambda w, a: loss(w, a, train), lambda w, a: loss(w, a, validation)


def _ridge(case, train, validation):
  error = lambda w, data: 0.5 * ((data["features"] @ w[0] - data["target"]) ** 2).mean()
  return lambda w, a: error(w, train) + 0.5 * (a[0].exp() * w[0] ** 2).sum(), lambda w, a: error(w, validation)


def _logistic(case, train, validation):
  def error(w, data):
    logits = data["features"] @ w[0]
    return (functional.softplus(logits) - data["target"] * logits).mean()

  return lambda w, a: error(w, train) + 0.5 * (a[0].exp() * w[0] ** 2).sum(), lambda w, a: error(w, validation)


def _affine(matrix, x):
  return x @ matrix[:-1] + matrix[-1]


def _hyper_cleaning(case, train, validation):
  losses = lambda w, data: functional.cross_entropy(_affine(w[0], data["image"]), data["label"], reduction="none")
  penalty = 0.5 * case.options["penalty"]
  return (
    lambda w, a: (a[0][train["index"]].sigmoid() * losses(w, train)).mean() + penalty * (w[0] ** 2).sum(),
    lambda w, a: losses(w, validation).mean(),
  )


def _condensation(case, train, validation):
  penalty = 0.5 * case.options["penalty"]
  inner = lambda w, a: functional.cross_entropy(_affine(w[0], a[0][train["index"]]), train["label"])
  return (
    lambda w, a: inner(w, a) + penalty * (w[0] ** 2).sum(),
    lambda w, a: functional.cross_entropy(_affine(w[0], validation["image"]), validation["label"]),
  )


def _hyper_representation(case, train, validation):
  penalty = 0.5 * case.options["penalty"]
  features = lambda a, data: _affine(a[0], data["image"]).tanh()
  loss = lambda w, a, data: functional.cross_entropy(_affine(w[0], features(a, data)), data["label"])
  return lambda w, a: loss(w, a, train) + penalty * (w[0] ** 2).sum(), lambda w, a: loss(w, a, validation)


def _few_shot(case, train, validation):
  penalty = 0.5 * case.options["penalty"]

  def errors(w, a, data):
    first, second, _ = a  # the leaves of a dict, by name: first, second, start
    hidden = _affine(second, _affine(first, data["x"][..., None]).tanh()).tanh()
    return ((hidden * w[0][:, None, :-1]).sum(-1) + w[0][:, -1:] - data["y"]).square().mean(1)

  return (
    lambda w, a: (errors(w, a, train) + penalty * ((w[0] - a[2]) ** 2).sum(1)).mean(),
    lambda w, a: errors(w, a, validation).mean(),
  )


_LOSSES = {
  "quadratic": _quadratic,
  "random_quadratic": _random_quadratic,
  "ridge": _ridge,
  "logistic": _logistic,
  "hyper_cleaning": _hyper_cleaning,
  "condensation": _condensation,
  "hyper_representation": _hyper_representation,
  "few_shot": _few_shot,
}
