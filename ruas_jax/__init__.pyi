# The public names: type checkers read this file, and `__init__.py` imports each name from here when it is first used.

from .config import Config as Config
from .config import TrainingOptions as TrainingOptions
from .config import load_config as load_config
from .data.options import DataOptions as DataOptions
from .engine.compile_cache import enable_compilation_cache as enable_compilation_cache
from .engine.memory import keep_freed_memory as keep_freed_memory
from .engine.mesh import one_cpu_device_per_core as one_cpu_device_per_core
from .engine.mesh_options import MeshOptions as MeshOptions
from .engine.preemption import Preempted as Preempted
from .engine.run_options import CheckpointOptions as CheckpointOptions
from .engine.run_options import RunOptions as RunOptions
from .errors import UserError as UserError
from .experiments.population import PopulationResult as PopulationResult
from .experiments.population import search_population as search_population
from .experiments.search import SearchResult as SearchResult
from .experiments.search import search as search
from .experiments.train import TrainResult as TrainResult
from .experiments.train import train as train
from .lowlight import losses as losses
from .lowlight.genotype import Genotype as Genotype
from .lowlight.loss_options import LossOptions as LossOptions
from .lowlight.module import RUAS as RUAS
from .lowlight.operations import CANDIDATES as CANDIDATES
from .lowlight.operations import Operation as Operation
from .lowlight.options import RELEASED as RELEASED
from .lowlight.options import NetworkOptions as NetworkOptions
from .photos.model import Model as Model
from .photos.model import enhance as enhance
from .photos.model import load as load
from .photos.model import save_model as save_model
from .photos.pretrained import load_pretrained as load_pretrained
from .sweep import PopulationOptions as PopulationOptions

__version__: str
