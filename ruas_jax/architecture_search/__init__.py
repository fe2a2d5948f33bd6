"""The cooperative architecture search (Algorithm 1): its state, its step, and the strategies it is compared with."""
