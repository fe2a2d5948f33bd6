"""Every table and figure of the paper as one command each; `docs/results.md` gathers what they give."""
