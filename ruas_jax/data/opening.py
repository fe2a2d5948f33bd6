"""Opening images by a short text, the *spec*: `open_source` (low-light images), `open_pairs` (with references).

  FOLDER                      images for `open_source`; a folder with `low/` and `high/` for `open_pairs`
  builtin[:train|evaluation]  the built-in set; default train for `open_source`, evaluation for `open_pairs`
  darkened:FOLDER             well-lit photographs, darkened by a physical model; only for `open_source`
  fivek:train|test:FOLDER     the fixed random 500/100 split of a folder with `low/` and `high/`
  tfds:lol/CONFIG:SPLIT       LOL, prepared in `tfds_dir`: CONFIG is official or paper, SPLIT is train or test

A folder whose name begins like a spec is written as `./builtin`.
"""

from etils import epath

from ruas_jax.data.sources import ImageFolder, ImageSource, PairFolders, Pairs, split_pairs
from ruas_jax.errors import UserError

FIVEK_COUNTS = (500, 100)


def split_fivek(pairs: Pairs, *, seed: int = 0) -> tuple[Pairs, Pairs]:
  """500 pairs for search and training and 100 for testing, the numbers of the paper's sample of MIT-Adobe FiveK.

  The paper does not list its sample, so this one is different. `seed` determines it.
  """
  train, test = split_pairs(len(pairs), FIVEK_COUNTS, seed=seed)
  return pairs.subset(train), pairs.subset(test)


def open_pairs(spec: epath.PathLike, *, tfds_dir: epath.PathLike | None = None) -> Pairs:
  """Pairs of low-light images and references from a spec (see the module's docstring).

  Raises:
    UserError: the spec names an unknown part, or cannot be opened.
  """
  kind, _, rest = str(spec).partition(":")
  if kind == "builtin":
    from ruas_jax.data import synthetic  # imports scikit-image

    return synthetic.builtin_pairs(rest or "evaluation")
  if kind == "tfds":
    from ruas_jax.data import lol  # imports tensorflow-datasets

    return lol.open_lol(rest, tfds_dir=tfds_dir)
  if kind == "fivek":
    part, _, folder = rest.partition(":")
    if part not in ("train", "test") or not folder:
      raise UserError(f"{spec}: must be fivek:train:FOLDER or fivek:test:FOLDER")
    return split_fivek(open_pairs(folder))[("train", "test").index(part)]
  return PairFolders(epath.Path(spec) / "low", epath.Path(spec) / "high")


def open_source(spec: epath.PathLike, *, tfds_dir: epath.PathLike | None = None) -> ImageSource:
  """Low-light images from a spec (see the module's docstring); for a spec of pairs, the low-light ones.

  Raises:
    UserError: as `open_pairs`.
  """
  if str(spec) == "builtin":
    spec = "builtin:train"
  kind, _, rest = str(spec).partition(":")
  if kind == "darkened":
    from ruas_jax.data import synthetic  # imports scikit-image

    return synthetic.darkened_folder(rest)
  if kind in ("builtin", "tfds", "fivek"):
    return open_pairs(spec, tfds_dir=tfds_dir).low
  return ImageFolder(spec)
