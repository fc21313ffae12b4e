"""The mathematics of certified smoothing: pure functions on NumPy arrays."""
