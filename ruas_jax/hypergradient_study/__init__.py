"""The study of hypergradient estimators at one point: accuracy, time, memory. It knows no images and no networks."""
