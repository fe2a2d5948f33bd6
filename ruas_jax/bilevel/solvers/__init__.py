"""Solvers of bilevel problems: `init`/`step` pairs over pytrees, with minibatches, counts and diagnostics."""
