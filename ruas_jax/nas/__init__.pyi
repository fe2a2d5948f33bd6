# The public names: type checkers read this file, and `__init__.py` imports each name from here when it is first used.

from . import baselines as baselines
from . import benchmark as benchmark
from .cost import cost_of_edges as cost_of_edges
from .files import RunFiles as RunFiles
from .losses import ProblemError as ProblemError
from .methods import METHODS as METHODS
from .one_search import RunOptions as RunOptions
from .one_search import search as search
from .options import DiagnosticsOptions as DiagnosticsOptions
from .options import SearchOptions as SearchOptions
from .population import PopulationFiles as PopulationFiles
from .population import PopulationResult as PopulationResult
from .population import search_population as search_population
from .problem import BilevelProblem as BilevelProblem
from .problem import Player as Player
from .problem import SearchProblem as SearchProblem
from .result import SearchResult as SearchResult
from .state import SearchState as SearchState
from .training import Trainer as Trainer
