"""`ruas info`."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
  """Show versions, devices, the cache folder and the optional packages that are installed."""

  def run(self) -> None:
    from ruas_jax.engine.environment import describe_environment

    for name, value in describe_environment().items():
      print(f"{name:<14}{value}")
