"""`ruas search`."""

import dataclasses
import sys

from ruas_jax.commands.experiment import Experiment
from ruas_jax.commands.spelling import spell_options
from ruas_jax.sweep import PopulationOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(Experiment):
  """Search the architectures of both modules, on low-light images only (Algorithm 1 of the paper)."""

  population: PopulationOptions = PopulationOptions()

  def run(self) -> None:
    from ruas_jax.experiments.search import search

    if not self.population.is_one:
      self._run_population()
      return

    result = search(self.experiment(), workdir=self.workdir, run=self.how())
    print(f"{result.genotype}\nsee {self.workdir}: genotype.json, alpha.png, genotype.png, losses.png")

  def _run_population(self) -> None:
    from ruas_jax.engine.mesh import one_cpu_device_per_core
    from ruas_jax.experiments.population import member_name, search_population

    one_cpu_device_per_core()
    found = search_population(self.experiment(), self.population, workdir=self.workdir, run=self.how())
    for position, failure in enumerate(found.failures):
      if failure:
        print(f"ruas: {member_name(position)}: {spell_options(failure, Search)}", file=sys.stderr)
    front = "front.png, front.json, " if found.front else ""
    searches = f"{len(found.members)} searches found {len(found.summary['genotypes'])} genotypes"
    print(f"{searches}\nsee {self.workdir}: population.png, population.json, {front}{member_name(0)}")
