"""One script a claim: each prints a table, ends with `NAME: figure (goal ...)`, and fails when it falls short."""
