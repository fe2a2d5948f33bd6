"""The loops: iterate over the data, jit once, log, save."""
