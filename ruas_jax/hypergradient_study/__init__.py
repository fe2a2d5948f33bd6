"""The study of hypergradient estimators in one place: accuracy, time, memory. Knows no images and no networks."""
