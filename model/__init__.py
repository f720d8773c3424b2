"""A U-net, and how it learns, judges, saves and predicts. No Ray in here."""
