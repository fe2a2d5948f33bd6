"""Opening images by one short text, the *spec*: `open_source` (low-light images), `open_pairs` (with references).

  FOLDER                      images for `open_source`; for `open_pairs`, a folder that holds `low/` and `high/`
  builtin[:train|evaluation]  the built-in set; by default train for `open_source`, evaluation for `open_pairs`
  darkened:FOLDER             photographs in good light, darkened by a physical model; for `open_source` alone
  fivek:train|test:FOLDER     the seeded 500/100 split of a folder that holds `low/` and `high/`
  tfds:lol/CONFIG:SPLIT       LOL, prepared in `tfds_dir`: CONFIG official or paper, SPLIT train or test

A folder whose own name begins like a spec is written `./builtin`.
"""

from etils import epath

from ruas_jax.data.sources import ImageFolder, ImageSource, PairFolders, Pairs, split_pairs
from ruas_jax.errors import UserError

FIVEK_COUNTS = (500, 100)


def split_fivek(pairs: Pairs, *, seed: int = 0) -> tuple[Pairs, Pairs]:
  """500 pairs for search and training and 100 for testing, sampled as the paper does from MIT-Adobe FiveK.

  The paper does not name its sample; this one is ours, fixed by `seed`.
  """
  train, test = split_pairs(len(pairs), FIVEK_COUNTS, seed=seed)
  return pairs.subset(train), pairs.subset(test)


def open_pairs(spec: epath.PathLike, *, tfds_dir: epath.PathLike | None = None) -> Pairs:
  """Pairs of low-light images and references from a spec (see the module's text).

  Raises:
    UserError: the spec names an unknown part, or what it names cannot be opened.
  """
  kind, _, rest = str(spec).partition(":")
  if kind == "builtin":
    from ruas_jax.data import synthetic  # it loads scikit-image

    return synthetic.builtin_pairs(rest or "evaluation")
  if kind == "tfds":
    from ruas_jax.data import lol  # it loads tensorflow-datasets

    return lol.open_lol(rest, tfds_dir=tfds_dir)
  if kind == "fivek":
    part, _, folder = rest.partition(":")
    if part not in ("train", "test") or not folder:
      raise UserError(f"{spec}: write fivek:train:FOLDER or fivek:test:FOLDER")
    return split_fivek(open_pairs(folder))[("train", "test").index(part)]
  return PairFolders(epath.Path(spec) / "low", epath.Path(spec) / "high")


def open_source(spec: epath.PathLike, *, tfds_dir: epath.PathLike | None = None) -> ImageSource:
  """Low-light images from a spec (see the module's text); of a spec that names pairs, the low ones.

  Raises:
    UserError: as `open_pairs`.
  """
  if str(spec) == "builtin":
    spec = "builtin:train"
  kind, _, rest = str(spec).partition(":")
  if kind == "darkened":
    from ruas_jax.data import synthetic  # it loads scikit-image

    return synthetic.darkened_folder(rest)
  if kind in ("builtin", "tfds", "fivek"):
    return open_pairs(spec, tfds_dir=tfds_dir).low
  return ImageFolder(spec)
