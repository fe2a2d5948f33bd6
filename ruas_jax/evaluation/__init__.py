"""Measurements by one strict protocol: the metrics, classical baselines, and the evaluation of models."""
