# The public names: type checkers read this file, and `__init__.py` imports each name from here when it is first used.

from . import losses as losses
from .config import Config as Config
from .config import TrainingOptions as TrainingOptions
from .config import load_config as load_config
from .data.options import DataOptions as DataOptions
from .errors import UserError as UserError
from .inference.model import Model as Model
from .inference.model import enhance as enhance
from .inference.model import load as load
from .inference.model import save_model as save_model
from .inference.pretrained import load_pretrained as load_pretrained
from .loss_options import LossOptions as LossOptions
from .retinex.module import RUAS as RUAS
from .retinex.options import RELEASED as RELEASED
from .retinex.options import NetworkOptions as NetworkOptions
from .runner.options import CheckpointOptions as CheckpointOptions
from .runner.options import RunOptions as RunOptions
from .runner.population import PopulationResult as PopulationResult
from .runner.population import search_population as search_population
from .runner.search import SearchResult as SearchResult
from .runner.search import search as search
from .runner.train import TrainResult as TrainResult
from .runner.train import train as train
from .runtime.compile_cache import enable_compilation_cache as enable_compilation_cache
from .runtime.mesh import one_cpu_device_per_core as one_cpu_device_per_core
from .runtime.options import MeshOptions as MeshOptions
from .runtime.preemption import Preempted as Preempted
from .search_space.genotype import Genotype as Genotype
from .search_space.operations import CANDIDATES as CANDIDATES
from .search_space.operations import Operation as Operation
from .sweep import PopulationOptions as PopulationOptions

__version__: str
