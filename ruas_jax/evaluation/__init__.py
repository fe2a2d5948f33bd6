"""Figures by one strict protocol: the metrics, the computed baselines, and the evaluation that applies both."""
