"""A picture of what each standard problem learns: `docs/bilevel_problems.png`.

    python -m benchmarks.bilevel.gallery --pictures docs [--quick]

Each is solved by `amigo` with Adam, but for the schedule, which descends its exact hypergradient.
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax import lax

from benchmarks.bilevel.cases import smoothness
from ruas_jax import bilevel
from ruas_jax.bilevel.problems import PROBLEMS, StandardProblem

_GREY, _BLUE, _RED = "0.6", "tab:blue", "tab:red"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--pictures", type=pathlib.Path, required=True, help="write the picture into this folder")
  parser.add_argument("--quick", action="store_true", help="few steps, as a test")
  arguments = parser.parse_args()
  steps = 3 if arguments.quick else 500
  figure, panels = plt.subplots(3, 3, figsize=(11, 9), layout="constrained")
  for panel, (name, make) in zip(panels.flat, PROBLEMS.items(), strict=True):
    problem = make(jax.random.key(0), **_OPTIONS.get(name, {}))
    found = descend(problem, steps) if name == "learned_schedule" else solve(problem, steps)
    title = _DRAW[name](panel, problem, found)
    panel.set_title(f"{name}: {title}", fontsize=9)
    panel.tick_params(labelsize=7)
  figure.savefig(arguments.pictures / "bilevel_problems.png", dpi=100)


def solve(problem: StandardProblem, steps: int) -> Any:
  """The solution."""
  return bilevel.solve(
    problem.problem,
    problem.weights,
    problem.alpha,
    problem.train,
    problem.validation,
    method="amigo",
    inner=1 / smoothness(problem),
    inner_steps=10,
    linear_steps=10,
    outer=optax.adam(0.03),
    steps=steps,
    strict=False,
  )


def descend(problem: StandardProblem, steps: int) -> Any:
  """The same for a problem without an inner minimum."""
  outer = optax.adam(0.01)

  def step(carry, _):
    alpha, state = carry
    updates, state = outer.update(problem.hypergradient(alpha), state)
    alpha = optax.apply_updates(alpha, updates)
    return (alpha, state), problem.value(alpha)

  (alpha, _), values = jax.jit(lambda alpha: lax.scan(step, (alpha, outer.init(alpha)), length=steps))(problem.alpha)
  return bilevel.Solution(problem.minimum(alpha), alpha, {"outer_loss": np.asarray(values)}, None)


def _loss(panel, problem, found):
  values = found.trace["outer_loss"]
  lowest = float(problem.value(problem.solution[1]))
  panel.semilogy(np.maximum(values - lowest, 1e-6 * abs(values[0])), color=_BLUE)
  panel.set_xlabel("outer step", fontsize=8)
  return "outer loss above the known minimum"


def _penalties(panel, problem, found):
  panel.bar(range(len(found.alpha)), np.asarray(found.alpha), color=[_BLUE] * 5 + [_GREY] * (len(found.alpha) - 5))
  panel.axhline(float(problem.alpha[0]), color=_RED, linewidth=0.8)
  panel.set_xlabel("feature; blue: informative", fontsize=8)
  return "log penalties (red: start)"


def _trust(panel, problem, found):
  weights, wrong = np.asarray(jax.nn.sigmoid(found.alpha)), np.asarray(problem.train["wrong"])
  bins = np.linspace(0, 1, 26)
  panel.hist(weights[~wrong], bins, color=_BLUE, alpha=0.7, label="right label")
  panel.hist(weights[wrong], bins, color=_RED, alpha=0.7, label="wrong label")
  panel.legend(fontsize=7)
  panel.set_xlabel("weight of an example", fontsize=8)
  return f"AUC {float(problem.measures(found.weights, found.alpha)['auc']):.3f}"


def _images(panel, problem, found):
  images = np.asarray(found.alpha).reshape(2, 5, 8, 8)
  panel.imshow(images.transpose(0, 2, 1, 3).reshape(16, 40), cmap="gray")
  panel.axis("off")
  return f"ten images, test accuracy {float(problem.measures(found.weights, found.alpha)['test_accuracy']):.2f}"


def _features(panel, problem, found):
  features = np.asarray(found.alpha)[:-1].T.reshape(2, 4, 8, 8)
  panel.imshow(features.transpose(0, 2, 1, 3).reshape(16, 32), cmap="RdBu")
  panel.axis("off")
  return f"eight features, test accuracy {float(problem.measures(found.weights, found.alpha)['test_accuracy']):.2f}"


def _rates(panel, problem, found):
  panel.plot(np.exp(np.asarray(found.alpha)), ".-", color=_BLUE)
  panel.axhline(float(jnp.exp(problem.alpha[0])), color=_RED, linewidth=0.8)
  panel.set_xlabel("step of training", fontsize=8)
  return "learned rates (red: start)"


def _sinusoids(panel, problem, found):
  line = jnp.linspace(-5, 5, 200)
  count = len(problem.train["task"])
  for task, colour in zip(range(3), (_BLUE, _RED, "tab:green"), strict=True):
    curve = jax.vmap(lambda x, task=task: _predict(found.weights[task], found.alpha, x))(line)
    panel.plot(np.asarray(line), np.asarray(curve), color=colour)
    panel.plot(
      np.asarray(problem.train["x"][task]), np.asarray(problem.train["y"][task]), "o", color=colour, markersize=4
    )
  return f"three of {count} tasks, ten shots each"


def _predict(head, alpha, x):
  affine = lambda matrix, x: x @ matrix[:-1] + matrix[-1]
  return affine(head, jnp.tanh(affine(alpha["second"], jnp.tanh(affine(alpha["first"], x[None])))))


_OPTIONS = {"random_quadratic": {"weights": 20, "alpha": 20, "examples": 256}, "quadratic": {"noise": 0.0}}
_DRAW: dict[str, Callable[..., str]] = {
  "quadratic": _loss,
  "random_quadratic": _loss,
  "ridge": _penalties,
  "logistic": _penalties,
  "hyper_cleaning": _trust,
  "condensation": _images,
  "hyper_representation": _features,
  "learned_schedule": _rates,
  "few_shot": _sinusoids,
}


if __name__ == "__main__":
  main()
