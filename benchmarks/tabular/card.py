"""The card of a table: how it was made, what it may be used for, and how noisy it is."""

import datetime
import textwrap

import numpy as np

from ruas_jax.engine.environment import device_in_words, versions
from ruas_jax.nas.benchmark.space import Space
from ruas_jax.nas.benchmark.statistics import Noise, measure_noise

TOLERANCE = 6.0  # times the noise; two independent seeds differ by 1.4 times it, in the standard deviation


def tolerance(noise: Noise) -> float:
  """How far the objective of an entry that is trained again may be from the table's."""
  return TOLERANCE * noise.noise


def card_of(space: Space, metrics: dict[str, np.ndarray]) -> str:
  """The text of the card, in Markdown."""
  seeds, recipe = np.isfinite(metrics[space.objective][:, :, -1]).sum(axis=0), space.recipe
  noise = {name: measure_noise(values[:, :, -1].astype(np.float64)) for name, values in metrics.items()}
  trained = f"All were trained with {seeds.min()} seeds."
  if seeds.min() < seeds.max():
    some = f"{np.sum(seeds > 1)} of them, drawn at random, with {seeds.max()} seeds."
    trained = f"All were trained with seed 0, and {some}"
  allowed = f"{tolerance(noise[space.objective]):.3g}"
  lengths = ", ".join(map(str, recipe.lengths))
  costs = (
    f"`parameters` and `macs` are those of the network with the chosen operations alone, `macs` for one {space.unit}."
  )
  if space.timed:
    size = "x".join(map(str, space.timed().shape))
    costs += (
      f" `latency` is an estimate in milliseconds for an input of {size}: the sum of what each operation adds when "
      "it is the only other one, measured on the machine below."
    )
  paragraphs = [
    f'# The table "{space.name}"',
    space.about,
    "## Entries",
    f"{len(seeds)} architectures: {len(space.operations)} operations on each of {len(space.edges)} edges. {trained} "
    "The seed determines the first weights. The batches and their order are the same in all trainings.",
    "## Training",
    f"{recipe.steps} steps with batches of {recipe.batch_size}; Adam with a learning rate of {recipe.learning_rate}, "
    f"which falls to zero along a cosine. The metrics are those of averaged weights (decay {recipe.averaging}) "
    f"after {lengths} steps of one training. `train_loss` is the average of the batches' losses with the same decay. "
    f"A search should make `{space.objective}` large.",
    "## Noise",
    "After the last step. Noise: the standard deviation over seeds of one architecture. Spread: the standard deviation "
    "over architectures, without the part that the noise adds. Ceiling: Kendall's tau between the architectures' true "
    "quality and this table; no score can be expected to reach more.",
    "| metric | noise | spread | noise / spread | ceiling |\n|---|---|---|---|---|\n"
    + "\n".join(
      f"| {name} | {each.noise:.4g} | {each.spread:.4g} | {each.ratio:.3f} | {each.ceiling:.2f} |"
      for name, each in noise.items()
    ),
    better_half(metrics[space.objective][:, :, -1], space.objective),
    "## Entries trained again",
    "The same machine with the same versions gives the same bits. Elsewhere the last bits differ, and training "
    f"enlarges that difference, at most to that between two seeds. There, `{space.objective}` should agree "
    f"within {allowed}, which is {TOLERANCE:g} times the noise.",
    "## Costs",
    costs,
    "## Making it again",
    f"`python -m benchmarks.tabular make {space.name}`, in the repository. Made on {datetime.date.today()}, "
    f"{device_in_words()}, jax {versions()['jax']}, convolution {versions()['convolution']}.",
    "## Licence",
    f"The table has the licence of ruas_jax, Apache-2.0. {space.licence}",
  ]
  filled = [text if text[0] in "|#" else textwrap.fill(text, 120) for text in paragraphs if text]
  return "\n\n".join(filled) + "\n"


def better_half(values: np.ndarray, name: str) -> str:
  """A sentence on the better half of the architectures that were trained with all seeds; empty if it has only one."""
  complete = values[:, np.isfinite(values).all(axis=0)].astype(np.float64)
  means = complete.mean(axis=0)
  better = complete[:, means > np.median(means)]
  if better.shape[1] < 2:
    return ""
  noise = np.sqrt(np.var(better, axis=0, ddof=1).mean())
  spread = np.sqrt(max(np.var(better.mean(axis=0), ddof=1) - noise**2 / len(values), 0.0))
  alike = ": good architectures are alike, and one training does not tell which is the best." if noise > spread else "."
  return (
    f"Among the better half of the architectures with {len(values)} seeds, the noise of `{name}` is {noise:.3g} and "
    f"the spread {spread:.3g}{alike}"
  )
