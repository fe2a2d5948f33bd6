"""`ruas demo`."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
  """See everything work in three minutes: search, train, enhance and evaluate on a small built-in set."""

  out: str = "demo"
  """Folder of the results; it is replaced."""

  def run(self) -> None:
    from ruas_jax.experiments.demo import demo

    print("look at", *demo(self.out), sep="\n  ")
