"""Differentiable architecture search over any problem.

    problem = nas.SearchProblem(
      init=lambda key: (weights, alpha),
      players=(nas.Player("cell", nas.BilevelProblem(inner_loss, outer_loss)),),
    )
    found = nas.search(problem, train=arrays, validation=arrays, options=nas.SearchOptions(steps=200), batch_size=32)
    found.derived, found.alpha, found.weights, found.metrics, found.state

A problem is pytrees and functions. This package knows no images and no networks. Searches run on `ruas_jax.engine`.

The public names are listed in `__init__.pyi`. Each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
