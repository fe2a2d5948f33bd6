"""Measurements. Run each as `python -m benchmarks.NAME [--quick] [--json FILE]`. A missed threshold is a valid
result."""
