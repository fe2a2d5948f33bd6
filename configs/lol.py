"""LOL."""

from ruas_jax.config import Config, DataOptions


def get_config() -> Config:
  return Config(data=DataOptions(crop=128))
