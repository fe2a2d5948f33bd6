"""`ruas train`."""

import dataclasses

from ruas_jax.commands.experiment import Experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Experiment):
  """Train the network of a genotype, on low-light images only."""

  genotype: str
  """Architecture to train: a genotype.json, or `published` for the paper's. Sizes in it replace the stages and channels
  of the network's options."""

  def run(self) -> None:
    from ruas_jax.experiments.train import train
    from ruas_jax.lowlight.genotype import Genotype

    train(self.experiment(), Genotype.load(self.genotype), workdir=self.workdir, run=self.how())
    print(f"see {self.workdir}: checkpoint, losses.png")
