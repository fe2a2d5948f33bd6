"""Figure 6: the illumination with a fixed warm start, and with an updated one without and with residual rectification.

    python -m benchmarks.paper.fig6_warm_starts --data LOL --picture fig6.jpg \\
      --json benchmarks/results/fig6_warm_starts.json

LOL is a folder with `train/low` and the pairs `dev/{low,high}`. The illumination module is trained three times, with
different warm starts and the same architecture, seed, steps and losses. Noise removal is neither trained nor run, so
all numbers are for RUAS_i. The paper claims that updates and their rectification reduce over-exposure. So the report
has PSNR, SSIM, the mean brightness of the results, and the share of pixels that are saturated in at least one channel.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.paper.pictures import Picture, Row, evaluate_pictures, save_grid
from benchmarks.paper.setting import paper_parser, train_images
from benchmarks.paper.study import add_study, at_least, open_study, settings_of
from benchmarks.report import print_table, write_report
from ruas_jax.engine.compiler import compiler_options
from ruas_jax.evaluation.no_reference import clipped_share
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import run
from ruas_jax.photos.model import Model

VARIANTS = {
  "fixed": {"network.illumination.warm_start": "fixed"},
  "updated, without rectification": {
    "network.illumination.warm_start": "updated",
    "network.illumination.gamma": 0.0,
  },
  "updated, with rectification": {"network.illumination.warm_start": "updated"},
}
"""Options that replace those of the configuration."""


def main(arguments: list[str] | None = None) -> None:
  parser = paper_parser(__doc__.split("\n")[0])
  add_study(parser, config="lol_paper_losses")
  parser.add_argument("--genotype", default="published", help="the architecture: a file, or published")
  parser.add_argument("--count", type=at_least(1), default=2, help="number of pairs in the picture, evenly spaced")
  options = parser.parse_args(arguments)
  study, genotype = open_study(options), Genotype.load(options.genotype)
  images = train_images(options.data)
  shown = np.linspace(0, len(study.pairs) - 1, min(options.count, len(study.pairs)) + 2).round().astype(int)[1:-1]
  variants, columns = {}, {"input": _inputs(study.pairs, shown)}
  for name, changes in VARIANTS.items():
    model = train(study.config.with_overrides(changes), genotype, images=images, denoising_loss=_no_loss).model
    maps = []

    def transform(image, model=model, maps=maps):
      result, illumination = jax.device_get(_light()(model, image))
      maps.append(illumination)
      return result

    report, pictures = evaluate_pictures(transform, study.pairs)
    variants[name] = report["mean"] | {
      "brightness": float(np.mean([picture.image.mean() for picture in pictures])),
      "clipped_share": float(np.mean([clipped_share(picture.image) for picture in pictures])),
      "mean_illumination": float(np.mean(maps)),
      "images": report["images"],
      "parameters": model.with_variant("i").parameters(),
    }
    columns[name] = []
    for index in shown:
      columns[name] += [pictures[index], Picture(maps[index], f"mean {maps[index].mean():.3f}")]
  shown_keys = ("psnr", "ssim", "brightness", "clipped_share")
  print_table(
    [
      {"warm start": name} | {key.replace("_", " "): metrics[key] for key in shown_keys}
      for name, metrics in variants.items()
    ],
    f"RUAS_i on {len(study.pairs)} pairs of LOL, dev",
  )
  write_report(
    options.json,
    settings=settings_of(options, study) | {"genotype": str(genotype)},
    results={"variants": variants},
    bars={},
  )
  if options.picture:
    names = [text for index in shown for text in (f"dev {study.pairs.names[index]}", "illumination t")]
    rows = [Row(name, pictures) for name, pictures in zip(names, zip(*columns.values(), strict=True), strict=True)]
    save_grid(options.picture, rows, columns=["input, reference", *VARIANTS])


def _no_loss(x, u):
  """Replaces L_n, so that the compiler removes the whole noise removal."""
  del x, u
  return jnp.zeros(())


def _inputs(pairs, shown) -> list[Picture]:
  """The first column: the input, and the reference in the row where the other columns have a map."""
  pictures = []
  for index in shown:
    low, high = pairs[int(index)]
    pictures += [Picture(low, "input"), Picture(high, "reference")]
  return pictures


@functools.cache
def _light():
  """`(model, image) -> (u_K, t_K averaged over the colours)`."""

  def light(model: Model, image):
    output = run(model.network, "i", model.weights, {}, image[None])
    return output.image[0], output.t[-1, 0].mean(axis=-1)

  return jax.jit(light, compiler_options=compiler_options())


if __name__ == "__main__":
  main()
