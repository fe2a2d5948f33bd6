"""Search methods by name: each is a choice of the same parts. This file does not import jax, so that command help is
fast.

A method names the parts that differ from DARTS. Optimisers, the number of steps and the space are not part of a method:
they stay those of the problem.
"""

import dataclasses
from typing import Literal, NamedTuple

MethodName = Literal[
  "darts",
  "first_order_darts",
  "snas",
  "gdas",
  "drnas",
  "pc_darts",
  "fair_darts",
  "beta_darts",
  "darts_pt",
  "robust_darts",
  "darts_plus",
  "oles",
  "smooth_darts",
  "reinmax",
  "sparse_darts",
]
Hypergradient = Literal[
  "unrolled",
  "mixed_mode",
  "forward",
  "truncated",
  "first_order",
  "finite_difference",
  "cg",
  "neumann",
  "nystrom",
  "evolution",
]
RelaxationName = Literal["softmax", "gumbel", "dirichlet", "sigmoid", "sparse", "reinmax"]
Annealing = Literal["exponential", "linear"]
Perturbation = Literal["none", "random", "adversarial"]
Stop = Literal["never", "eigenvalue", "skips", "gradient_match"]
Selection = Literal["argmax", "sample", "perturbation", "budget"]


@dataclasses.dataclass(frozen=True)
class Parts:
  """The parts of a method, explained in `SearchOptions`. The defaults are those of DARTS."""

  hypergradient: Hypergradient = "unrolled"
  relaxation: RelaxationName = "softmax"
  straight_through: bool = False
  temperature: float = 1.0
  final_temperature: float = 0.0
  annealing: Annealing = "exponential"
  partial_channels: int = 1
  perturbation: Perturbation = "none"
  perturbation_size: float = 0.3
  regularisers: tuple[str, ...] = ()
  ramp: float = 0.0
  warm_up: float = 0.0
  selection: Selection = "argmax"
  tuning_steps: int = 10
  budget: tuple[str, ...] = ()
  stop: Stop = "never"

  @property
  def scheduled(self) -> bool:
    """Whether a part changes from step to step, so that the numbers depend on the total number of steps."""
    return bool(self.final_temperature or self.warm_up or self.ramp or self.perturbation != "none")


class Method(NamedTuple):
  """Attributes:
  parts: the parts.
  change: what it changes in DARTS, in a line.
  paper: where it was published.
  """

  parts: Parts
  change: str
  paper: str


_FIRST_ORDER = Parts(hypergradient="first_order")  # in most papers, to save time


def _row(change: str, paper: str, start: Parts = _FIRST_ORDER, **parts) -> Method:
  return Method(dataclasses.replace(start, **parts), change, paper)


# The name of each method maps to its parts, what it changes in DARTS, and its paper.
METHODS: dict[MethodName, Method] = {
  "darts": _row("softmax, exact hypergradient", "Liu, Simonyan and Yang, ICLR 2019", Parts()),
  "first_order_darts": _row("the hypergradient's direct term only", "Liu, Simonyan and Yang, ICLR 2019"),
  "snas": _row(
    "mixing weights are drawn: Gumbel softmax, temperature 1 to 0.03",
    "Xie et al., ICLR 2019",
    relaxation="gumbel",
    final_temperature=0.03,
  ),
  "gdas": _row(
    "one operation is drawn, straight-through gradient, temperature 10 to 0.1",
    "Dong and Yang, CVPR 2019",
    relaxation="gumbel",
    straight_through=True,
    temperature=10.0,
    final_temperature=0.1,
    annealing="linear",
  ),
  "drnas": _row(
    "mixing weights are drawn from a Dirichlet distribution, which is kept near the uniform one",
    "Chen et al., ICLR 2021",
    relaxation="dirichlet",
    regularisers=("distance=0.001",),
  ),
  "pc_darts": _row(
    "a quarter of the channels is mixed, the others skip; alpha rests for the first 30 % of the steps",
    "Xu et al., ICLR 2020",
    partial_channels=4,
    warm_up=0.3,
  ),
  "fair_darts": _row(
    "each operation has a separate sigmoid, driven to 0 or 1 by the zero-one loss",
    "Chu et al., ECCV 2020",
    relaxation="sigmoid",
    regularisers=("zero_one=10",),
  ),
  "beta_darts": _row(
    "the logsumexp of alpha is penalised, with a weight that rises from 0 to 50",
    "Ye et al., CVPR 2022",
    regularisers=("beta=50",),
    ramp=1.0,
  ),
  "darts_pt": _row(
    "an operation is chosen for what its removal costs, not for its mixing weight",
    "Wang et al., ICLR 2021",
    selection="perturbation",
  ),
  "robust_darts": _row(
    "stops before alpha gets where the outer loss is sharp, by the largest eigenvalue of its Hessian",
    "Zela et al., ICLR 2020",
    Parts(),
    stop="eigenvalue",
  ),
  "darts_plus": _row(
    "stops when a cell chooses skip twice",
    "Liang et al., 2019",
    stop="skips",
  ),
  "oles": _row(
    "stops when training and validation gradients of the weights no longer agree",
    "Jiang et al., NeurIPS 2023",
    stop="gradient_match",
  ),
  "smooth_darts": _row(
    "the weights learn under random changes of the mixing weights, which grow to 0.3",
    "Chen and Hsieh, ICML 2020",
    perturbation="random",
    perturbation_size=0.3,
  ),
  "reinmax": _row(
    "one operation is drawn, with a gradient that is exact to second order",
    "Liu et al., NeurIPS 2023",
    relaxation="reinmax",
  ),
  "sparse_darts": _row(
    "sparsemax: mixing weights of weak operations are exactly zero",
    "Martins and Astudillo, ICML 2016",
    relaxation="sparse",
  ),
}
