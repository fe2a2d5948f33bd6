"""RUAS for JAX: Retinex-inspired unrolling with cooperative prior architecture search for low-light image enhancement.

    model = ruas_jax.load_pretrained("general")
    bright = ruas_jax.enhance(model, images)

`images` are float `[..., H, W, 3]` in [0, 1]; the function is pure, so jit and vmap work.
"""

from ruas_jax import losses
from ruas_jax.config import Config, DataOptions, load_config
from ruas_jax.errors import UserError
from ruas_jax.inference.model import Model, enhance, load, save_model
from ruas_jax.inference.pretrained import load_pretrained
from ruas_jax.objectives import LossOptions
from ruas_jax.retinex.network import RELEASED, RUAS, NetworkOptions
from ruas_jax.runner.options import CheckpointOptions, RunOptions
from ruas_jax.runner.population import PopulationResult, search_population
from ruas_jax.runner.search import SearchResult, search
from ruas_jax.runner.train import TrainResult, train
from ruas_jax.runtime.compile_cache import enable_compilation_cache
from ruas_jax.runtime.mesh import MeshOptions, one_cpu_device_per_core
from ruas_jax.runtime.preemption import Preempted
from ruas_jax.search_space.genotype import Genotype
from ruas_jax.search_space.operations import CANDIDATES, Operation
from ruas_jax.sweep import PopulationOptions

__all__ = [
  "CANDIDATES",
  "RELEASED",
  "RUAS",
  "CheckpointOptions",
  "Config",
  "DataOptions",
  "Genotype",
  "LossOptions",
  "MeshOptions",
  "Model",
  "NetworkOptions",
  "Operation",
  "PopulationOptions",
  "PopulationResult",
  "Preempted",
  "RunOptions",
  "SearchResult",
  "TrainResult",
  "UserError",
  "enable_compilation_cache",
  "enhance",
  "load",
  "load_config",
  "load_pretrained",
  "losses",
  "one_cpu_device_per_core",
  "save_model",
  "search",
  "search_population",
  "train",
]
