"""Eager PyTorch for the speed benchmarks: the search step by finite differences (DARTS), as in the released code, and
the forward pass of a derived network. The code was written from the equations. It uses one thread pool, and no
compilation unless requested.

The supernet is the released form: every mixed operation applies its seven candidates and adds them, weighted. It is
written as a careful user of eager PyTorch would: parameters are updated without copies of modules, gradients are
computed only where needed, optimisers update in place, and the twelve differences of the smoothness term work on whole
images.
"""

import math
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F

from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.optimizers import OptimizerOptions

SLOPE = 0.05
_NODES = 4
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (2, 1), (1, 2), (2, -1), (1, -2), (2, 2), (2, -2))
_CANDIDATES = {  # name: dilation, residual
  "conv_1x1": (1, False),
  "conv_3x3": (1, False),
  "dilated_conv_3x3": (2, False),
  "residual_conv_1x1": (1, True),
  "residual_conv_3x3": (1, True),
  "residual_dilated_conv_3x3": (2, True),
}
Tensors = Any  # nested dictionaries of tensors


def from_jax(tree: Any, device: str = "cpu") -> Tensors:
  """Our weights as PyTorch's: kernels `[..., h, w, in, out]` become `[..., out, in, h, w]`; the dtype does not
  change."""

  def convert(path, leaf):
    values = np.asarray(leaf)
    kernel = path and getattr(path[-1], "key", None) == "kernel"
    values = np.moveaxis(values, (-1, -2), (-4, -3)) if kernel else values
    return torch.tensor(np.ascontiguousarray(values), device=device)

  return jax.tree_util.tree_map_with_path(convert, tree)


def images_from_jax(images: Any, device: str = "cpu") -> torch.Tensor:
  """Converts NHWC to NCHW."""
  return torch.tensor(np.ascontiguousarray(np.moveaxis(np.asarray(images), -1, 1)), device=device)


def _convolve(x, kernel, bias, dilation=1):
  return F.conv2d(x, kernel, bias, padding=dilation * (kernel.shape[-1] // 2), dilation=dilation)


def _operation(name, x, kernel, bias):
  dilation, residual = _CANDIDATES[name]
  result = _convolve(x, kernel, bias, dilation)
  return result + x if residual else result


def _mixed(x, edges, shares, stage, edge):
  total = shares[edge, 0] * x  # skip
  for position, name in enumerate(_CANDIDATES, start=1):
    entry = edges[name]
    total = total + shares[edge, position] * _operation(
      name, x, entry["kernel"][stage, edge], entry["bias"][stage, edge]
    )
  return total


def _cell(x, edge, fusion_kernel, fusion_bias):
  """The cell; `edge(index, x)` computes a searched edge."""
  distilled = []
  for node in range(_NODES - 1):
    distilled.append(F.leaky_relu(edge(2 * node, x), SLOPE))
    x = F.leaky_relu(edge(2 * node + 1, x) + x, SLOPE)
  distilled.append(F.leaky_relu(edge(2 * (_NODES - 1), x), SLOPE))
  return F.conv2d(torch.cat(distilled, 1), fusion_kernel, fusion_bias)


def _warm_start(u, y):
  return F.max_pool2d(F.pad(u, (0, 1, 0, 1)), 2, 1) - 0.5 * (u - y)


def _illuminate(cell, stages, y):
  """Last t and u of the released form; `cell(stage, x)` computes a cell."""
  u = y
  for stage in range(stages):
    t = torch.sigmoid(cell(stage, _warm_start(u, y))).clamp(0.001, 1)
    u = (y / t).clamp(0, 1)
  return t, u


def _denoise(cell, stages, weights, u):
  features = _convolve(u, weights["stem"]["kernel"], weights["stem"]["bias"])
  for stage in range(stages):
    features = cell(stage, features)
  return u - _convolve(features, weights["head"]["kernel"], weights["head"]["bias"])


def _supernet_cell(weights, alpha):
  edges, fusion, shares = weights["edges"], weights["fusion"], F.softmax(alpha, -1)
  return lambda stage, x: _cell(
    x, lambda index, r: _mixed(r, edges, shares, stage, index), fusion["kernel"][stage], fusion["bias"][stage]
  )


def _derived_cell(weights, operations):
  edges, fusion = weights["edges"], weights["fusion"]

  def edge(stage):
    def value(index, x):
      name = operations[index]
      if name == "skip":
        return x
      entry = edges[EDGES[index]]
      return _operation(name, x, entry["kernel"][stage], entry["bias"][stage])

    return value

  return lambda stage, x: _cell(x, edge(stage), fusion["kernel"][stage], fusion["bias"][stage])


def forward(weights: Tensors, genotype: Genotype, variant: str, images: torch.Tensor) -> torch.Tensor:
  """The derived network in the released form: maps `[B, 3, H, W]` in [0, 1] to the same; `variant` is i or i+n."""
  with torch.no_grad():
    lit, clean = weights["illumination"], weights["denoising"]
    _, u = _illuminate(_derived_cell(lit, genotype.illumination), _stages(lit), images)
    if variant == "i":
      return u
    cells = _derived_cell(clean["cells"], genotype.denoising)
    return _denoise(cells, _stages(clean["cells"]), clean, u).clamp(0, 1)


def _stages(cells):
  return cells["fusion"]["kernel"].shape[0]


def _difference(x, dy, dx):
  height, width = x.shape[-2:]
  left, right = max(0, -dx), max(0, dx)
  return x[..., dy:, right : width - left] - x[..., : height - dy, left : width - right]


def illumination_loss(weights: Tensors, alpha: torch.Tensor, images: torch.Tensor):
  """The released L_t, and u_K."""
  t, u = _illuminate(_supernet_cell(weights, alpha), _stages(weights), images)
  total = 0.5 * F.mse_loss(t, images)
  for dy, dx in _NEIGHBOURS:
    closeness = torch.exp(-0.005 * _difference(images, dy, dx).square().sum(1))
    total = total + 2 * closeness.mean() * _difference(t, dy, dx).abs().mean()
  return total, u


def denoising_loss(weights: Tensors, alpha: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
  """The released L_n."""
  x = _denoise(_supernet_cell(weights["cells"], alpha), _stages(weights["cells"]), weights, u)
  down, right = x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]
  return 1e-7 * F.mse_loss(x, u) + 2 * (down.square().mean() + right.square().mean())


def _leaves(tree):
  return [leaf for value in tree.values() for leaf in _leaves(value)] if isinstance(tree, dict) else [tree]


def _rebuild(tree, leaves):
  if isinstance(tree, dict):
    return {name: _rebuild(value, leaves) for name, value in tree.items()}
  return next(leaves)


class SearchStep:
  """One step of the released procedure for one module: alpha by eq. 5 with finite differences, then the weights.

  Args:
    weights, alpha: those of both modules, `{"illumination", "denoising"}`, in PyTorch's layout.
    module: module that is updated.
    beta: weight of L_n in the illumination's validation loss.
    weight_optimizer, alpha_optimizer: SGD with momentum, and Adam with L2 decay.
    epsilon: width of the finite difference times `||c||`.
    compiled: whether the two losses, and therefore their gradients, use `torch.compile`.
  """

  def __init__(
    self,
    weights: Tensors,
    alpha: dict[str, torch.Tensor],
    *,
    module: str,
    beta: float,
    weight_optimizer: OptimizerOptions,
    alpha_optimizer: OptimizerOptions,
    epsilon: float = 0.01,
    compiled: bool = False,
  ):
    self._all_weights, self._all_alpha, self._module = weights, alpha, module
    self._beta, self._epsilon, self._rate = beta, epsilon, weight_optimizer.learning_rate
    self._leaves = [leaf.requires_grad_() for leaf in _leaves(weights[module])]
    self._alpha = alpha[module].requires_grad_()
    self._momentum = weight_optimizer.momentum
    if compiled:
      self._inner, self._outer = torch.compile(self._inner), torch.compile(self._outer)
    self._weight_optimizer = torch.optim.SGD(self._leaves, lr=self._rate, momentum=self._momentum)
    self._alpha_optimizer = torch.optim.Adam(
      [self._alpha],
      lr=alpha_optimizer.learning_rate,
      betas=(alpha_optimizer.momentum, alpha_optimizer.second_moment),
      weight_decay=alpha_optimizer.weight_decay,
    )

  def _inner(self, leaves, images):
    weights = _rebuild(self._all_weights[self._module], iter(leaves))
    if self._module == "illumination":
      return illumination_loss(weights, self._alpha, images)[0]
    return denoising_loss(weights, self._alpha, self._light(images))

  def _outer(self, leaves, images):
    if self._module == "denoising":
      return self._inner(leaves, images)
    weights = _rebuild(self._all_weights["illumination"], iter(leaves))
    loss, u = illumination_loss(weights, self._alpha, images)
    return loss + self._beta * denoising_loss(self._all_weights["denoising"], self._all_alpha["denoising"], u)

  def _light(self, images):
    with torch.no_grad():
      return illumination_loss(self._all_weights["illumination"], self._all_alpha["illumination"], images)[1]

  def hypergradient(self, train: torch.Tensor, validation: torch.Tensor) -> torch.Tensor:
    """The hypergradient of alpha, at the weights after one step of SGD on `train`."""
    gradient = torch.autograd.grad(self._inner(self._leaves, train), self._leaves)
    with torch.no_grad():
      reached = []
      for leaf, part in zip(self._leaves, gradient, strict=True):
        buffer = self._weight_optimizer.state[leaf].get("momentum_buffer")
        update = part if buffer is None else part + self._momentum * buffer
        reached.append((leaf - self._rate * update).requires_grad_())
    *to_weights, direct = torch.autograd.grad(self._outer(reached, validation), [*reached, self._alpha])
    norm = self._rate * math.sqrt(sum(float(part.square().sum()) for part in to_weights))
    width = self._epsilon / norm if norm > 0 else self._epsilon
    sides = []
    for sign in (1, -1):
      with torch.no_grad():
        aside = [leaf - sign * width * self._rate * to for leaf, to in zip(self._leaves, to_weights, strict=True)]
      sides.append(torch.autograd.grad(self._inner(aside, train), self._alpha)[0])
    return direct + (sides[0] - sides[1]) / (2 * width)

  def __call__(self, train: torch.Tensor, validation: torch.Tensor) -> float:
    """Updates alpha, then the weights; returns the training loss before."""
    self._alpha.grad = self.hypergradient(train, validation)
    self._alpha_optimizer.step()
    self._weight_optimizer.zero_grad()
    loss = self._inner(self._leaves, train)
    for leaf, part in zip(self._leaves, torch.autograd.grad(loss, self._leaves), strict=True):
      leaf.grad = part
    self._weight_optimizer.step()
    return loss.item()
