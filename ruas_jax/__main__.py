"""`python -m ruas_jax`, the same as `ruas`."""

from ruas_jax.commands.app import main

if __name__ == "__main__":
  main()
