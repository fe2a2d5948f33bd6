"""Pictures of a run as PNG files: heat maps of alpha, loss curves, photographs before and after, the genotypes of a
population and their front of cost and loss, and a genotype as graphs.

Every function writes its file completely or not at all. Images are HWC RGB float in [0, 1].
"""

from ruas_jax.plots.alpha import plot_alpha as plot_alpha
from ruas_jax.plots.before_after import plot_before_after as plot_before_after
from ruas_jax.plots.figure import make_figure as make_figure
from ruas_jax.plots.figure import save_figure as save_figure
from ruas_jax.plots.figure import tidy as tidy
from ruas_jax.plots.front import plot_front as plot_front
from ruas_jax.plots.genotype import draw_genotype as draw_genotype
from ruas_jax.plots.losses import plot_losses as plot_losses
from ruas_jax.plots.population import plot_population as plot_population
