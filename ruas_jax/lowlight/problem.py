"""RUAS as a search problem: its supernet, its players, and the genotype derived from alpha."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.budget import derive_within, require_within
from ruas_jax.lowlight.cost import NetworkCost, mac_cost, parameter_cost
from ruas_jax.lowlight.denoising import COLOURS
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.latency import read_latency
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.numbers import with_numbers
from ruas_jax.lowlight.objectives import DenoisingLoss, IlluminationLoss, make_objectives
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.options import NetworkOptions
from ruas_jax.lowlight.players import make_players
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.lowlight.space import named_choices, size_values
from ruas_jax.nas.problem import SearchProblem


def make_search_problem(
  network: NetworkOptions,
  loss: LossOptions,
  search: RUASSearchOptions,
  sample: Callable[[Any, jax.Array], jax.Array],
  *,
  hyper: Mapping[str, float] | None = None,
  operations: tuple[Operation, ...] = CANDIDATES,
  illumination_loss: IlluminationLoss | None = None,
  denoising_loss: DenoisingLoss | None = None,
) -> SearchProblem:
  """The search problem of RUAS. Its derived result is a genotype, as the dictionary in `genotype.json`.

  Args:
    network, loss, search: the options.
    sample: `(raw, key) -> images`, float `[B, H, W, 3]` in [0, 1].
    hyper: numbers of these options that a population sweeps, by their paths in the configuration, such as `loss.eta_t`.
    operations: the candidates.
    illumination_loss: `(IlluminationOutput, images) -> []`, replaces L_t of the options.
    denoising_loss: `(x, u) -> []`, replaces L_n of the options.

  Raises:
    UserError: every network of these candidates has more parameters than `search.parameters` allows.
  """
  names = operation_names(operations)

  costs = network_costs(network, search.latency_table, operations)

  def size(genotype: Genotype) -> int:
    return int(costs["parameters"]().of(genotype))

  if search.parameters:
    require_within(search.parameters, int(costs["parameters"]().smallest))

  def init(key):
    supernet, dtype = build_network(network, operations=operations), jnp.result_type(float)
    return supernet.init_weights(key, dtype), supernet.init_alpha(dtype)

  def losses_of(hyper):
    supernet = build_network(with_numbers(network, hyper, "network"), operations=operations)
    numbers = with_numbers(loss, hyper, "loss")
    given = {"illumination_loss": illumination_loss, "denoising_loss": denoising_loss}
    return make_objectives(supernet, numbers, **given), numbers.beta

  def derive(alpha):
    return derive_within(search.parameters, jax.device_get(alpha), names, network, size).to_dict()

  narrow = network.space == "ruas"
  return SearchProblem(
    init=init,
    players=make_players(search, losses_of),
    sample=sample,
    derive=derive,
    hyper=dict(hyper or {}),
    statistics=lambda alpha: alpha_statistics(alpha, names, size_values(network)),
    costs={name: lambda shares, make=make: make().relative(shares) for name, make in costs.items()},
    skip=names.index("skip") if narrow and "skip" in names else None,
    channels={"illumination": COLOURS, "denoising": network.denoising.channels} if narrow else None,
  )


def network_costs(
  network: NetworkOptions, latency_table: str | None, operations: tuple[Operation, ...] = CANDIDATES
) -> dict[str, Callable[[], NetworkCost]]:
  """The costs by name, latency only with a table. The others are computed when they are first called.

  Raises:
    UserError: the table cannot be read, or does not fit the network.
  """
  costs = {
    "parameters": lambda: parameter_cost(network, operations),
    "macs": lambda: mac_cost(network, operations),
  }
  if latency_table is not None:
    if network.space == "wide":
      raise UserError(
        "`search.latency_table` is for `network.space` ruas: a table has one number of stages and one of channels"
      )
    latency = read_latency(latency_table, network, operations)
    costs["latency"] = lambda: latency
  return {name: functools.cache(make) for name, make in costs.items()}


def alpha_statistics(
  alpha: dict[str, Any], operation_names: Sequence[str], sizes: Mapping[str, tuple[int, ...]] = {}
) -> dict[str, jax.Array]:
  """Statistics of alpha for each module X. `X_skip_share` is the mean over edges of skip's softmax share (1/7 at the
  start; a rise towards one is the collapse of DARTS). `X_entropy` is the mean over edges of the entropy in nats.
  `X_stages` and `X_channels` are the means of the wide space's sizes."""
  logits_of = named_choices(alpha)
  statistics = {
    name: jnp.sum(jax.nn.softmax(logits_of[name]) * jnp.asarray(values, logits_of[name].dtype))
    for name, values in sizes.items()
  }
  for module in alpha:
    log_shares = jax.nn.log_softmax(logits_of[module])
    shares = jnp.exp(log_shares)
    skips = np.asarray([name == "skip" for name in operation_names])
    statistics[f"{module}_skip_share"] = jnp.sum(shares[:, skips], axis=1).mean()
    statistics[f"{module}_entropy"] = -jnp.sum(shares * log_shares, axis=1).mean()
  return statistics
