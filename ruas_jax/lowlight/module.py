"""The network as a Flax module. Its weights are the collection `params`, and its architecture logits (alpha) are the
collection `arch`:

    variables = RUAS().init(jax.random.key(0), images)
    output = RUAS().apply({"params": weights, "arch": alpha}, images)
"""

import flax.linen as nn
import jax

from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import RUASOutput, build_network, run
from ruas_jax.lowlight.operations import CANDIDATES, Operation
from ruas_jax.lowlight.options import NetworkOptions
from ruas_jax.nas.relaxation import softmax


class RUAS(nn.Module):
  """The network as a Flax module: the supernet, or the derived network of `genotype`.

  `init(key, images)` returns the collections `params` (weights) and `arch` (alpha, for the supernet only), each with
  the entries "illumination" and "denoising". Calling it maps float images `[B, H, W, 3]` in [0, 1] to `RUASOutput`.
  """

  genotype: Genotype | None = None
  options: NetworkOptions = NetworkOptions()
  operations: tuple[Operation, ...] = CANDIDATES

  @nn.compact
  def __call__(self, images: jax.Array) -> RUASOutput:
    network = build_network(self.options, self.genotype, self.operations)
    weights = {name: self.param(name, getattr(network, name).init) for name in network._fields}
    alpha = {name: self.variable("arch", name, lambda v=value: v).value for name, value in network.init_alpha().items()}
    return run(network, self.options.variant, weights, softmax(alpha), images)
