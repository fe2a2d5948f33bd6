"""The experiments behind the commands: search, population, training, demo, and the study of hypergradients."""
