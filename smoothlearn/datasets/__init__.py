"""Data sets of the papers, in the form that scikit-learn's loaders return."""

from smoothlearn.datasets.cifar10 import load_cifar10
from smoothlearn.datasets.mnist import load_mnist
from smoothlearn.datasets.spirals import make_spirals

__all__ = ["load_cifar10", "load_mnist", "make_spirals"]
