"""The cost of a search round and a training step on a device, by formula: floating-point operations, memory traffic,
traffic between devices, and memory size; and the minimum time on a chip.

    python -m benchmarks.speed.cost_model     # 10,000 searches of configs/lol.py on a pod of TPU v5e, by calculation

The network is a chain of convolutions with few channels, and only those are counted. F is the number of convolutions in
a forward pass, each of them bilinear in its input and its kernel:

    a gradient is F, F for the inputs, F for the kernels                               [1, 1, 1]
    a product of second derivatives with a vector is two for each of these             [2, 2, 2]

and a round is a number of such *passes* `[forward, to input, to kernel]` for each module (`round_passes`). A constant
kernel has no passes to the kernel. Everything else (activations, losses, crops, optimisers, the folding of kernels,
whose cost does not grow with the image) is ignored; `benchmarks.speed.scaling` measures its size.

    operations = P/p * B/d * crop^2 * sum over modules, convolutions, passes of 2 * taps * inputs * outputs
    collective = P/p * 4 bytes * sum over modules of (passes to kernel) * (numbers of the kernels);   zero if d = 1

for P members on p devices of the mesh's population axis, and batches of B images on d devices of its data axis.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.report import print_table
from ruas_jax.config import Config, load_config
from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.convolution.primitives import Taps, identity_taps, square_taps
from ruas_jax.lowlight.cell import NODES, Cell
from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.lowlight.network import BLOCK_SIDE, build_network
from ruas_jax.lowlight.operations import CANDIDATES
from ruas_jax.lowlight.search_options import RUASSearchOptions

FLOAT = 4  # bytes
UNIT = 128
COLOURS = 3
BLOCKS = ImageLayout(BLOCK_SIDE)
MODULES = ("illumination", "denoising")

FORWARD, GRADIENT, SECOND = np.array([1, 0, 0]), np.array([1, 1, 1]), np.array([2, 2, 2])
THROUGH = np.array([1, 1, 0])  # a gradient through a module whose weights are constant
NOTHING = np.zeros(3, int)

Platform = Literal["cpu", "accelerator"]


class Convolution(NamedTuple):
  """Attributes:
  inputs, outputs: channels.
  taps: taps where its kernel is not zero.
  images: number of images that it processes in a forward pass over one image: one per stage, and fractions for halves.
  calls: number of calls in a forward pass.
  """

  inputs: int
  outputs: int
  taps: Taps
  images: float = 1
  calls: int = 1

  @property
  def window(self) -> tuple[int, int]:
    """Number of different rows and columns of its taps: five and five for the 17 of the paper's candidates."""
    rows, columns = zip(*self.taps, strict=True)
    return len(set(rows)), len(set(columns))

  @property
  def block_matrix(self) -> tuple[int, int]:
    """Rows and columns of its kernel as a matrix between blocks of pixels."""
    return BLOCKS.blocks_read(self.taps) * BLOCKS.side**2 * self.inputs, BLOCKS.side**2 * self.outputs

  def operations(self, platform: Platform) -> np.ndarray:
    """Operations per pixel for each kind of pass. On a CPU a convolution computes only its taps, and a gradient of the
    kernel its whole window. On accelerators each is a dense product over blocks of pixels (`ruas_jax/convolution`)."""
    if platform == "accelerator":
      rows, columns = self.block_matrix
      return np.full(3, 2 * rows * columns / BLOCKS.side**2)
    rows, columns = self.window
    return 2 * self.inputs * self.outputs * np.array([len(self.taps), len(self.taps), rows * columns])

  def numbers_moved(self, platform: Platform) -> np.ndarray:
    """Numbers read and written per pixel for each kind of pass.

    accelerator: input and output once each, which is the minimum. cpu: as XLA counts its fused loops. There, every tap
    reads a shifted plane of a padded input, and a gradient of the kernel writes a shifted plane for every row of one
    operand and every column of the other: the planes are written, joined, and read by the product.
    """
    inputs, outputs = self.inputs, self.outputs
    if platform == "accelerator":
      return np.full(3, inputs + outputs)
    rows, columns = self.window
    padding = 3 if len(self.taps) > 1 else 0  # read, written, and passed on
    planes = len(self.taps) + padding
    gradient = (3 * columns + padding) * inputs + (3 * rows + padding) * outputs
    return np.array([planes * inputs + outputs, planes * outputs + inputs, gradient])

  def unit_operations(self, side: int) -> np.ndarray:
    """Operations per pixel for each kind of pass on a matrix unit of `side` x `side` numbers, which takes as long for a
    smaller matrix."""
    rows, columns = (-(-size // side) * side for size in self.block_matrix)
    return np.full(3, 2 * rows * columns / BLOCKS.side**2)

  def kernel_numbers(self) -> int:
    """Numbers that devices with a common batch add up for one gradient of the kernel: its window, and the bias."""
    rows, columns = self.window
    return self.outputs * (rows * columns * self.inputs + 1)


def cell_convolutions(cell: Cell, *sees: float) -> list[Convolution]:
  """Three nodes with two edges each, as one convolution of twice the width or as two; one more edge; the fusion. A skip
  is no convolution."""
  channels, (*pairs, last) = cell.channels, cell.node_taps()
  edges = [(2 * channels // len(pair), taps) for pair in pairs for taps in pair] + [(channels, *last)]
  return [
    *(Convolution(channels, outputs, taps, *sees) for outputs, taps in edges if taps),
    Convolution(NODES * channels, channels, identity_taps, *sees),
  ]


def forward_convolutions(config: Config, genotype: Genotype | None = None) -> dict[str, list[Convolution]]:
  """The convolutions of each module's forward pass over one image with its loss, for the supernet or a derived network.

  `loss.denoising="pairs"` denoises the image and, in a second call, its two halves with a quarter of the pixels each.
  The relative total variation is a separable window over two directions of two kinds. (`smoothness` has constant
  kernels.)
  """
  network, loss = build_network(config.network, genotype), config.loss
  stages, denoising = config.network.illumination.stages, config.network.denoising
  images, calls = (1.5, 2) if loss.denoising == "pairs" else (1, 1)
  repeats = denoising.stages if denoising.update == "residual" else 1
  ends = images * repeats, calls * repeats
  half = max(1, int(np.ceil(2.5 * loss.rtv_sigma)))
  row = tuple((0, step) for step in range(-half, half + 1))
  windows = 2 * 2 * 2 * COLOURS if loss.illumination != "released" and loss.eta_t else 0
  return {
    "illumination": cell_convolutions(network.illumination.cell, stages, stages),
    "denoising": [
      Convolution(COLOURS * (2 if denoising.guided else 1), denoising.channels, square_taps(3), *ends),
      *cell_convolutions(network.denoising.cell, images * denoising.stages, calls * denoising.stages),
      Convolution(denoising.channels, COLOURS, square_taps(3), *ends),
    ],
    "smoothness": [Convolution(1, 1, row, windows)],
  }


class Derivatives(NamedTuple):
  """Derivatives of the inner loss in a round: number of gradients, and of products with its second derivatives."""

  gradients: int
  second: int


def estimator_derivatives(options: RUASSearchOptions) -> Derivatives:
  """The derivatives of the hypergradient estimator, in addition to the outer loss's gradient and the weights' update.

  For `cg` it is the maximum number of iterations.

  Raises:
    ValueError: the estimator has no count: `evolution` computes no gradient, and the length of `cg` may be unlimited.
  """
  steps, name = options.unroll_steps, options.parts.hypergradient
  values = dict(text.split("=") for text in options.hypergradient_options)
  if name == "unrolled":  # several steps are computed again in the backward pass
    return Derivatives(steps if steps == 1 else 2 * steps, steps)
  if name == "truncated":
    last = int(values["last"])
    return Derivatives(steps - last + (1 if last == 1 else 2 * last), last)
  if name == "mixed_mode":
    return Derivatives(2 * steps - 1, steps)
  if name == "first_order":
    return Derivatives(0, 0)  # the weights after its inner steps are not used
  if name == "finite_difference":
    return Derivatives(1 + 2, 0)
  if name == "forward":
    alphas = 2 if options.strategy == "joint" else 1
    return Derivatives(steps, steps * alphas * len(EDGES) * len(CANDIDATES))  # one for each number in alpha
  products = {"neumann": "terms", "nystrom": "rank", "cg": "iterations"}
  if name in products and products[name] in values:
    extra = {"neumann": 0, "nystrom": 1, "cg": 2}[name]  # for the last step and the first residual
    return Derivatives(steps + 1, int(values[products[name]]) + extra)
  raise ValueError(f"there is no count for the estimator {name} with the options {values}")


def round_passes(config: Config, players: Iterable[str] | None = None) -> dict[str, np.ndarray]:
  """Passes `[forward, to input, to kernel]` through each module in one round, for these players or for all.

  Inner loops that may end early are counted with their full length.
  """
  options, derivatives = config.search, estimator_derivatives(config.search)
  smooth = THROUGH
  inner = {
    "illumination": {"illumination": GRADIENT, "smoothness": smooth},
    "denoising": {"illumination": FORWARD, "denoising": GRADIENT},
    "joint": {"illumination": GRADIENT, "denoising": GRADIENT, "smoothness": smooth},
  }
  outer = dict(inner)
  if options.strategy == "cooperative" and config.loss.beta:
    evaluations = 1 if options.cooperation == "equation_5" else 2
    outer["illumination"] = {"illumination": evaluations * GRADIENT, "denoising": THROUGH, "smoothness": smooth}
  lengths = {"illumination": options.illumination_length, "denoising": options.denoising_length}
  shares = {
    "joint": {"joint": lengths["illumination"]},
    "separate": {name: length / 2 for name, length in lengths.items()},
  }
  total = {name: NOTHING for name in (*MODULES, "smoothness")}
  for player, share in shares.get(options.strategy, lengths).items():
    if players is not None and player not in players:
      continue
    for module in total:
      once, at_last = inner[player].get(module, NOTHING), outer[player].get(module, NOTHING)
      second = {tuple(GRADIENT): SECOND, tuple(THROUGH): THROUGH}.get(tuple(once), NOTHING)
      passes = (derivatives.gradients + 1) * once + derivatives.second * second + at_last
      total[module] = total[module] + share * passes
  return total


TRAINING_PASSES = {"illumination": GRADIENT, "denoising": GRADIENT, "smoothness": THROUGH}


@dataclasses.dataclass(frozen=True)
class Cost:
  """The cost on one device for one step of its members.

  Attributes:
    operations: floating-point operations; an addition and a multiplication count separately.
    bytes_moved: bytes read and written.
    collective_bytes: operands of the sums over the devices with a common batch.
    bytes_kept: memory of one member's forward pass that the backward pass needs.
    unit_operations: operations that a matrix unit of `UNIT` x `UNIT` could do in the time that it needs.
  """

  operations: float
  bytes_moved: float
  collective_bytes: float
  bytes_kept: float
  unit_operations: float


def cost(
  passes: dict[str, np.ndarray],
  convolutions: dict[str, list[Convolution]],
  *,
  crop: int,
  batch: int = 1,
  members: int = 1,
  population: int = 1,
  data: int = 1,
  platform: Platform = "cpu",
) -> Cost:
  """The cost on a device of a `[population, data]` mesh.

  Args:
    passes: passes through each module (`round_passes`, `TRAINING_PASSES`).
    convolutions: convolutions of each module (`forward_convolutions`).
    crop, batch: side in pixels, and number of images in a member's batch.
    members: P.
    population, data: p and d, which divide P and B.
    platform: how convolutions are computed.
  """
  pixels = crop**2 * batch / data
  members_here = members / population
  operations = bytes_moved = summed = kept = in_unit = 0.0
  for module, times in passes.items():
    for convolution in convolutions[module]:
      operations += convolution.images * times @ convolution.operations(platform)
      bytes_moved += convolution.images * times @ convolution.numbers_moved(platform)
      in_unit += convolution.images * times @ convolution.unit_operations(UNIT)
      if times.any():
        kept += convolution.images * (convolution.inputs + convolution.outputs)
      summed += times[2] * convolution.calls * convolution.kernel_numbers()
  return Cost(
    operations=members_here * pixels * operations,
    bytes_moved=members_here * pixels * FLOAT * bytes_moved,
    collective_bytes=members_here * FLOAT * summed if data > 1 else 0.0,
    bytes_kept=pixels * FLOAT * kept,
    unit_operations=members_here * pixels * in_unit,
  )


class Chip(NamedTuple):
  """Attributes:
  bfloat16: operations per second of the matrix units.
  passes: number of bfloat16 products for one in float32.
  bandwidth, memory: of its memory, in bytes per second and bytes.
  link: bytes per second to one neighbour, in one direction.
  chips: number of chips in a pod.
  units: number of matrix units.
  """

  bfloat16: float
  passes: int
  bandwidth: float
  memory: float
  link: float
  chips: int
  units: int

  @property
  def clock(self) -> float:
    """Cycles per second. In each cycle, every element of a unit does one multiplication and one addition."""
    return self.bfloat16 / (2 * self.units * UNIT**2)

  def seconds(self, cost: Cost, *, data: int = 1) -> dict[str, float]:
    """Lower bounds of the time: for the matrix units at their peak, the same including the columns that few channels
    leave empty, for memory, and for a ring of `data` devices that add up numbers."""
    float32 = self.bfloat16 / self.passes
    return {
      "peak": cost.operations / float32,
      "matrix units": cost.unit_operations / float32,
      "memory": cost.bytes_moved / self.bandwidth,
      "exchange": 2 * (data - 1) / data * cost.collective_bytes / self.link,
    }


# Data sheet, https://docs.cloud.google.com/tpu/docs/v5e: 197 TFLOP/s in bfloat16, 16 GB at 819 GB/s, four links with
# 400 GB/s in both directions together, 256 chips in a pod, four matrix units. Size of a unit, 128 x 128 (UNIT):
# https://jax-ml.github.io/scaling-book/tpus
# Convolutions need full float32 (`lax.Precision.HIGHEST`), which a TPU computes by six products in bfloat16
# (`jax.lax.DotAlgorithmPreset.BF16_BF16_F32_X6`).
V5E = Chip(bfloat16=197e12, passes=6, bandwidth=819e9, memory=16e9, link=50e9, chips=256, units=4)
SEARCHES = 10_000


def main() -> None:
  config = load_config("lol")
  members = -(-SEARCHES // V5E.chips)
  print(f"{members} searches a chip, {members * V5E.chips} in all; {config.search.steps} rounds each")
  for crop in (config.data.crop, 320):
    of_round = cost(round_passes(config), forward_convolutions(config), crop=crop, platform="accelerator")
    seconds = V5E.seconds(of_round)
    rows = [
      {
        "bound": name,
        "a round of one search, ms": 1e3 * value,
        "all searches, hours": value * members * config.search.steps / 3600,
      }
      for name, value in seconds.items()
    ]
    amounts = f"{of_round.operations / 1e9:.1f} GFLOP, {of_round.bytes_moved / 1e9:.2f} GB"
    print_table(rows, f"crop {crop}: {amounts} a round, {of_round.bytes_kept / 1e6:.0f} MB kept")


if __name__ == "__main__":
  main()
