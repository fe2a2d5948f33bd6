"""Deriving an architecture within a number of parameters."""

import numpy as np
import pytest
import tiny_problem

from ruas_jax.config import load_config
from ruas_jax.errors import UserError
from ruas_jax.experiments.setting import search_setting
from ruas_jax.lowlight.budget import derive_within
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.lowlight.options import NetworkOptions

NAMES = ("skip", "conv_1x1", "conv_3x3")
COST = {"skip": 0, "conv_1x1": 1, "conv_3x3": 9}


def size(genotype):
  return 100 + sum(COST[name] for name in (*genotype.illumination, *genotype.denoising))


def alpha(**strengths):
  """conv_3x3 everywhere, beside which `strengths`, edge -> (operation, logit), come close."""
  both = {cell: np.tile(np.array([-4.0, -4.0, 0.0]), (7, 1)) for cell in ("illumination", "denoising")}
  for place, (name, logit) in strengths.items():
    cell, edge = place.rsplit("_", 1)
    both[cell][int(edge), NAMES.index(name)] = logit
  return both


def test_what_fits_is_the_strongest():
  own = alpha()
  strongest = Genotype.derive(own["illumination"], own["denoising"], NAMES)
  assert derive_within(0, own, NAMES, NetworkOptions(), size) == strongest
  assert (
    derive_within(size(strongest), own, NAMES, NetworkOptions(), size)
    == strongest
    == Genotype(("conv_3x3",) * 7, ("conv_3x3",) * 7)
  )


def test_the_weakest_preference_per_number_goes_first():
  own = alpha(illumination_3=("conv_1x1", -0.1), denoising_5=("skip", -0.02))
  strongest = Genotype(("conv_3x3",) * 7, ("conv_3x3",) * 7)
  once = strongest.replace("denoising", 5, "skip")
  twice = once.replace("illumination", 3, "conv_1x1")
  whole = size(strongest)
  assert derive_within(whole - 1, own, NAMES, NetworkOptions(), size) == once
  assert derive_within(whole - 9, own, NAMES, NetworkOptions(), size) == once
  assert derive_within(whole - 10, own, NAMES, NetworkOptions(), size) == twice
  assert size(derive_within(whole - 100, own, NAMES, NetworkOptions(), size)) <= whole - 100


def test_too_small_a_budget_is_one_line():
  network = tiny_problem.get_config().network
  skips = build_network(network, Genotype(("skip",) * 7, ("skip",) * 7)).parameters()
  problem = lambda most: search_setting(tiny_problem.get_config().with_overrides({"search.parameters": most})).problem
  problem(skips)
  with pytest.raises(UserError, match=rf"`search\.parameters` {skips - 1}: the smallest.*has {skips}; allow at least"):
    problem(skips - 1)


def test_a_search_keeps_to_it():
  """alpha asks for 3x3 convolutions everywhere; what `search` and a population derive is smaller."""
  config = tiny_problem.get_config()
  names = operation_names(CANDIDATES)
  own = np.zeros((7, len(names)), np.float32)
  own[:, names.index("conv_3x3")] = 1
  alpha = {"illumination": own, "denoising": own}
  largest = build_network(config.network, Genotype(("conv_3x3",) * 7, ("conv_3x3",) * 7)).parameters()
  within = config.with_overrides({"search.parameters": largest - 400})  # two exchanges away
  free, kept = (Genotype.from_dict(search_setting(one).problem.derive(alpha)) for one in (config, within))
  assert build_network(config.network, kept).parameters() <= largest - 400
  assert set(free.illumination + free.denoising) == {"conv_3x3"}


def test_the_recipe_for_lol_keeps_to_its_size():
  """Seven channels and 3x3 convolutions on every edge are above it, and its count is that of a model's weights."""
  config = load_config("lol")
  largest = Genotype(("conv_3x3",) * 7, ("conv_3x3",) * 7)
  assert build_network(config.network, largest).parameters() > config.search.parameters == 3500
