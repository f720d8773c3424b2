"""What the data doctor looks for: each file holds the checks of one kind."""
