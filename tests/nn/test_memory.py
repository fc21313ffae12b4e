"""Memory that is kept: page faults of a new process, counted."""

import os
import platform
import subprocess
import sys

import pytest

#: Ten rounds of what a small convolutional network takes and frees, and the pages it took.
CHURN = """
import resource
import torch
from smoothlearn.nn.memory import keep_freed_memory
keep_freed_memory()
def churn():
    images = torch.ones(500, 16 * 14 * 14)
    return images.relu().sum()
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults():
    kept = {name: value for name, value in os.environ.items() if "MALLOC" not in name.upper()}
    said = subprocess.run(
        [sys.executable, "-c", CHURN],
        capture_output=True,
        text=True,
        check=True,
        env=kept | {"OMP_NUM_THREADS": "1"},
    )
    return int(said.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_the_next_batch_gets_the_memory_of_the_last():
    pages = 2 * 10 * 500 * 16 * 14 * 14 * 4 // 4096
    assert page_faults() < pages // 5
