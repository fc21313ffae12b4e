"""A fitted model of somebody else's, seen as a function whose structure we know."""
