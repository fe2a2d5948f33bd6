"""One command for each table and figure of the paper. `docs/results.md` collects the results."""
