"""The command line: one file for each command of `ruas`, and the app that joins them."""
