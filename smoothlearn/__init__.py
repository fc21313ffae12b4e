"""scikit-learn classifiers with certified robustness."""

__version__ = "0.1.0.dev0"
