"""Heat maps of alpha."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype, alpha_shares, softmax
from ruas_jax.plots.figure import make_figure, save_figure
from ruas_jax.plots.style import RED, TITLES, words


def plot_alpha(
  path: str | os.PathLike,
  alpha: Mapping[str, Any],
  operation_names: Sequence[str],
  genotype: Genotype | None = None,
  sizes: Mapping[str, Sequence[int]] | None = None,
) -> None:
  """Heat maps of softmax(alpha), one per cell, side by side. A red box marks the operation of each edge. Below are the
  sizes of the wide space.

  Args:
    path: the PNG file.
    alpha: cell name ("illumination", "denoising") -> architecture logits `[7, O]`, rows in the order of `EDGES`; and
      name in `sizes` -> logits `[S]`.
    operation_names: the O candidate operations, in the order of the columns.
    genotype: what to mark; None: the largest in each row.
    sizes: name of a choice of sizes (`space.size_values`) -> its S values.

  Raises:
    UserError: alpha has another shape, or the softmax of an edge is undefined.
  """
  shares = {
    cell: alpha_shares(logits, cell=cell, operation_names=operation_names)
    for cell, logits in sorted(alpha.items(), key=lambda item: [*CELLS, item[0]].index(item[0]))
    if cell not in (sizes or {})
  }
  smallest, largest = np.min([*shares.values()]), np.max([*shares.values()])
  digits = 2 if largest - smallest > 0.05 else 3  # after a short search the values are close

  def draw(axis, share, chosen, smallest, largest):
    image = axis.imshow(share, cmap="Blues", vmin=smallest, vmax=largest, aspect="auto")
    axis.tick_params(length=0)
    for (row, column), value in np.ndenumerate(share):
      axis.text(column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=8.5,
                color="white" if value > 0.4 * smallest + 0.6 * largest else "black")  # fmt: skip
    for row, column in enumerate(chosen):
      axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=2, zorder=3))
    return image

  size = (0.8 + (1.0 + 0.68 * len(operation_names)) * len(shares), 5.4 + (0.9 if sizes else 0))
  figure = make_figure(*size, layout="constrained")
  rows: Any = figure.subfigures(2, 1, height_ratios=(5.4, 0.9)) if sizes else (figure, None)
  above, below = rows
  axes = above.subplots(1, len(shares), squeeze=False, sharey=True)[0]
  for axis, (cell, share) in zip(axes, shares.items(), strict=True):
    chosen = [operation_names.index(name) for name in getattr(genotype, cell)] if genotype else share.argmax(axis=1)
    image = draw(axis, share, chosen, smallest, largest)
    axis.set_title(TITLES.get(cell, cell), fontsize=12)
    axis.set_xticks(range(len(operation_names)), [words(name) for name in operation_names], rotation=40, ha="right",
                    rotation_mode="anchor")  # fmt: skip
    axis.set_yticks(range(len(EDGES)), [words(edge) for edge in EDGES])
  above.colorbar(image, ax=list(axes), label="softmax(alpha)", pad=0.02, fraction=0.04)
  if sizes and below is not None:
    strips = below.subplots(1, len(sizes), squeeze=False)[0]
    found = genotype.sizes if genotype and genotype.sizes else [None] * len(sizes)
    for axis, (name, values), value in zip(strips, sizes.items(), found, strict=True):
      share = softmax(np.asarray(alpha[name], np.float64))
      chosen = values.index(value) if value in values else int(share.argmax())
      draw(axis, share[None], [chosen], share.min(), share.max())
      axis.set(title=words(name), yticks=[])
      axis.set_xticks(range(len(values)), [str(each) for each in values])
  save_figure(figure, path)
