"""Denoisers: transformers that estimate clean rows from noisy ones."""
