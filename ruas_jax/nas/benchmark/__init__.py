"""Tabular benchmarks of architecture search: spaces whose architectures were all trained, and the results as a table.

    table = nas.benchmark.load()  # or load("digits")
    table.query(("conv_3x3", "skip", "conv_3x3", "conv_1x1"))  # {"psnr": ..., "parameters": ..., ...}
    found = table.search(nas.SearchOptions(steps=400))
    table.rate(found.derived)  # {"psnr": ..., "regret": ..., "percentile": ...}
    table.evaluate(nas.SearchOptions(steps=400), seeds=10)

A search costs seconds, and what it finds is looked up in the table. `print(table.card)` says how the table was made,
and how far the noise between seeds limits what can be read from it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
