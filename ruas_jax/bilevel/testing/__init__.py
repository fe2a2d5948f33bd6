"""What holds every estimator to its promise in float64: closed forms, reference problems, the conformance table."""
