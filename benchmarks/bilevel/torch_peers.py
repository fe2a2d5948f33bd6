"""One outer step in PyTorch: written out, and by BOAT, Betty and TorchOpt.

All take `INNER_STEPS` steps of plain gradient descent from the present weights, compute the hypergradient, and move
alpha once. The hypergradient is that through all steps (`unrolled`), or that of the implicit function theorem with
`PRODUCTS` conjugate gradients (`cg`) or as many terms of Neumann's series (`neumann`, whose scale is the inner rate).
Each peer is a class with `step()`, and `weights` and `alpha`, lists of tensors. Betty's cg is not among them: that of
version 0.1.1 is right for one iteration only.
"""

import logging
import os
import tempfile

import numpy as np
import torch

from benchmarks.bilevel.torch_losses import Tensors, TorchProblem
from ruas_jax.bilevel.problems import StandardProblem

INNER_STEPS, PRODUCTS = 10, 10


class Plain:
  """PyTorch alone."""

  def __init__(self, problem: TorchProblem, method: str, inner_rate: float, outer_rate: float):
    self.problem, self.method, self.inner_rate, self.outer_rate = problem, method, inner_rate, outer_rate
    self.weights, self.alpha = _leaves(problem.weights), _leaves(problem.alpha)

  def step(self) -> None:
    gradient = self._unrolled() if self.method == "unrolled" else self._implicit()
    with torch.no_grad():
      for leaf, slope in zip(self.alpha, gradient, strict=True):
        leaf -= self.outer_rate * slope

  def _descend(self, create_graph):
    weights = self.weights
    for _ in range(INNER_STEPS):
      slopes = torch.autograd.grad(self.problem.inner(weights, self.alpha), weights, create_graph=create_graph)
      weights = [leaf - self.inner_rate * slope for leaf, slope in zip(weights, slopes, strict=True)]
      if not create_graph:
        weights = _leaves(weights)
    return weights

  def _unrolled(self):
    weights = self._descend(create_graph=True)
    gradient = torch.autograd.grad(self.problem.outer(weights, self.alpha), self.alpha)
    self.weights = _leaves(weights)
    return gradient

  def _implicit(self):
    self.weights = weights = self._descend(create_graph=False)
    value = self.problem.outer(weights, self.alpha)
    right, *direct = _split(torch.autograd.grad(value, [*weights, *self.alpha], materialize_grads=True), len(weights))
    slopes = torch.autograd.grad(self.problem.inner(weights, self.alpha), weights, create_graph=True)
    product = lambda vector: torch.autograd.grad(slopes, weights, vector, retain_graph=True)
    solution = _conjugate_gradient(product, right) if self.method == "cg" else self._neumann(product, right)
    mixed = torch.autograd.grad(slopes, self.alpha, solution)
    return [there - through for there, through in zip(direct[0], mixed, strict=True)]

  def _neumann(self, product, right):
    total, power = list(right), list(right)
    for _ in range(PRODUCTS):
      power = [leaf - self.inner_rate * image for leaf, image in zip(power, product(power), strict=True)]
      total = [one + other for one, other in zip(total, power, strict=True)]
    return [self.inner_rate * leaf for leaf in total]


class Schedule:
  """PyTorch alone on `problems.learned_schedule`: one pass of SGD, differentiated by the rates of its steps."""

  def __init__(self, problem: StandardProblem, outer_rate: float):
    self._train = [_tensor_of(problem.train[name]) for name in ("features", "target")]
    self._held = [_tensor_of(problem.validation[name]) for name in ("features", "target")]
    self._start, (self.alpha,) = _tensor_of(problem.weights), _leaves([_tensor_of(problem.alpha)])
    self._outer_rate = outer_rate

  def step(self) -> None:
    error = lambda weights, features, target: 0.5 * ((features @ weights - target) ** 2).mean()
    weights = self._start.clone().requires_grad_()
    for rate, features, target in zip(self.alpha.exp(), *self._train, strict=True):
      (slope,) = torch.autograd.grad(error(weights, features, target), weights, create_graph=True)
      weights = weights - rate * slope
    (gradient,) = torch.autograd.grad(error(weights, *self._held), self.alpha)
    with torch.no_grad():
      self.alpha -= self._outer_rate * gradient


def _tensor_of(leaf) -> torch.Tensor:
  return torch.from_numpy(np.array(leaf))


def _conjugate_gradient(product, right):
  dot = lambda one, other: sum((a * b).sum() for a, b in zip(one, other, strict=True))
  add = lambda one, scale, other: [a + scale * b for a, b in zip(one, other, strict=True)]
  x, residual, direction = [torch.zeros_like(leaf) for leaf in right], list(right), list(right)
  square = dot(residual, residual)
  for _ in range(PRODUCTS):
    image = product(direction)
    size = square / dot(direction, image)
    x, residual = add(x, size, direction), add(residual, -size, image)
    square, before = dot(residual, residual), square
    direction = add(residual, square / before, direction)
  return x


class _Parameters(torch.nn.Module):
  """Tensors as a module, which the libraries ask for."""

  def __init__(self, tensors: Tensors):
    super().__init__()
    self.leaves = torch.nn.ParameterList([torch.nn.Parameter(tensor.clone()) for tensor in tensors])

  def values(self) -> Tensors:
    return [getattr(self.leaves, str(index)) for index in range(len(self.leaves))]

  forward = values


class Boat:
  """BOAT: NGD with RAD, CG or NS. The file that it writes in each step, a history of losses, is left out here: it would
  grow with the number of steps."""

  def __init__(self, problem: TorchProblem, method: str, inner_rate: float, outer_rate: float):
    from boat_torch import boat_opt

    inner, outer = _Parameters(problem.weights), _Parameters(problem.alpha)
    self.weights, self.alpha = inner.values(), outer.values()
    config = {
      "fo_op": None,
      "gm_op": ["NGD"],
      "na_op": [{"unrolled": "RAD", "cg": "CG", "neumann": "NS"}[method]],
      "lower_level_model": inner,
      "upper_level_model": outer,
      "lower_level_var": self.weights,
      "upper_level_var": self.alpha,
      "lower_level_opt": torch.optim.SGD(self.weights, lr=inner_rate),
      "upper_level_opt": torch.optim.SGD(self.alpha, lr=outer_rate),
      "lower_iters": INNER_STEPS,
      "device": "cpu",
      "GDA": {"alpha_init": 0.0, "alpha_decay": 0.9},
      "RGT": {"truncate_iter": 0},
      "CG": {"tolerance": 0.0, "k": PRODUCTS},
      "accumulate_grad": False,
      "copy_last_param": True,
      "return_grad": False,
      "loss_log_path": os.path.join(tempfile.mkdtemp(), "losses.json"),
    }
    losses = {
      "lower_level_loss": {"function": f"{__name__}.boat_loss", "params": {"loss": problem.inner}},
      "upper_level_loss": {"function": f"{__name__}.boat_loss", "params": {"loss": problem.outer}},
    }
    self._problem = boat_opt.Problem(config, losses)
    self._problem.build_ll_solver()
    self._problem.build_ul_solver()
    self._problem.save_losses = lambda **_: None
    self._count = 0

  def step(self) -> None:
    self._problem.run_iter({}, {}, self._count)
    self._problem._log_results.clear()
    self._count += 1


def boat_loss(data, upper, lower, params=None, *, loss):
  """A loss in BOAT's form. `params` stands for the parameters of the lower model, if it is not None."""
  del data
  return loss(list(lower.parameters() if params is None else params), list(upper.parameters()))


class Betty:
  """Betty: an ImplicitProblem with neumann."""

  def __init__(self, problem: TorchProblem, method: str, inner_rate: float, outer_rate: float):
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.problems import ImplicitProblem

    assert method == "neumann"

    class Upper(ImplicitProblem):
      def training_step(self, batch):
        del batch
        return problem.outer(self.lower(), self.module())

      def get_batch(self):
        return ()

    class Lower(ImplicitProblem):
      def training_step(self, batch):
        del batch
        return problem.inner(self.module(), self.upper())

      def get_batch(self):
        return ()

    inner, outer = _Parameters(problem.weights), _Parameters(problem.alpha)
    self.weights, self.alpha = inner.values(), outer.values()
    lower = Lower(
      name="lower",
      module=inner,
      optimizer=torch.optim.SGD(inner.parameters(), lr=inner_rate),
      config=Config(type="neumann", neumann_iterations=PRODUCTS, neumann_alpha=inner_rate, unroll_steps=INNER_STEPS),
    )
    upper = Upper(
      name="upper",
      module=outer,
      optimizer=torch.optim.SGD(outer.parameters(), lr=outer_rate),
      config=Config(retain_graph=True),
    )
    dependencies = {"u2l": {upper: [lower]}, "l2u": {lower: [upper]}}
    logging.disable(logging.INFO)  # a dozen lines about the two problems
    self._engine = Engine([lower, upper], EngineConfig(), dependencies)
    logging.disable(logging.NOTSET)
    self._engine.train()

  def step(self) -> None:
    for _ in range(INNER_STEPS):
      self._engine.train_step()


class TorchOpt:
  """TorchOpt: MetaSGD."""

  def __init__(self, problem: TorchProblem, method: str, inner_rate: float, outer_rate: float):
    import torchopt

    assert method == "unrolled"
    self._torchopt, self.problem, self._inner = torchopt, problem, _Parameters(problem.weights)
    self.alpha = _leaves(problem.alpha)
    self._optimizer = torchopt.MetaSGD(self._inner, lr=inner_rate)
    self._outer = torch.optim.SGD(self.alpha, lr=outer_rate)

  @property
  def weights(self) -> Tensors:
    return self._inner.values()

  def step(self) -> None:
    for _ in range(INNER_STEPS):
      self._optimizer.step(self.problem.inner(self._inner.values(), self.alpha))
    self._outer.zero_grad()
    self.problem.outer(self._inner.values(), self.alpha).backward()
    self._outer.step()
    self._torchopt.stop_gradient(self._inner)
    self._torchopt.stop_gradient(self._optimizer)


PEERS = {
  "unrolled": {"PyTorch": Plain, "BOAT": Boat, "TorchOpt": TorchOpt},
  "cg": {"PyTorch": Plain, "BOAT": Boat},
  "neumann": {"PyTorch": Plain, "BOAT": Boat, "Betty": Betty},
}


def _leaves(tensors):
  return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def _split(tensors, count):
  return list(tensors[:count]), list(tensors[count:])
