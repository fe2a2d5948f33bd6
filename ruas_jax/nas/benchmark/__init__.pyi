# The public names: type checkers read this file, and `__init__.py` imports each name from here when it is first used.

from .space import Data as Data
from .space import Network as Network
from .space import Recipe as Recipe
from .space import Space as Space
from .statistics import Noise as Noise
from .table import Table as Table
from .table import load as load
