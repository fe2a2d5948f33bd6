"""One command that measures an accelerator: `python -m benchmarks.speed.accelerator`; `--help` shows its options.

It needs jax, flax, optax, orbax and scikit-image, PyTorch for the comparison with it, and no data. The images are made
up. Each part is a file here, and a process of its own.
"""
