"""One command that measures an accelerator: `python -m benchmarks.speed.accelerator`. `--help` shows its options.

It needs jax, flax, optax, orbax and scikit-image, PyTorch for the comparison, and no data: the images are synthetic.
Each part is a file in this folder, and runs in a separate process.
"""
