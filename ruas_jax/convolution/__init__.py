"""The convolution for few channels: its primitives, and how each platform computes them."""
