"""`ruas demo`."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
  """Run search, training, enhancement and evaluation on a small built-in set; takes about three minutes."""

  out: str = "demo"
  """Folder of the results. An earlier demo in it is replaced."""

  def run(self) -> None:
    from ruas_jax.experiments.demo import demo

    print("look at", *demo(self.out), sep="\n  ")
