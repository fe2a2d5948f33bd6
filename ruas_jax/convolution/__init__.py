"""The few-channel convolution: its primitives, and how each platform computes them. Knows arrays only."""
