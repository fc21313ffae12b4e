"""What runs on a device: energies, their training, and the Monte-Carlo engine."""
