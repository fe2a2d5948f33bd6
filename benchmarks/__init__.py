"""Measurements, each run as `python -m benchmarks.NAME [--quick] [--json FILE]`. A missed bar is a result, no error."""
