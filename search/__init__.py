"""What to try, where to run it, and what came of it."""
