"""All solvers on all problems, as `benchmarks.bilevel.convergence`."""

from benchmarks.bilevel.convergence import main

main()
