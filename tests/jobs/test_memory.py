"""A file of rows that is larger than the memory that certification may take."""

import os
import subprocess
import sys

import pytest

#: 2 GB of zeros in single precision.
SCRIPT = """
import os, sys, threading
import numpy as np, torch
from sklearn.linear_model import LogisticRegression
from smoothlearn import RandomizedSmoothingClassifier, certify

torch.set_num_threads(1)
n_rows, n_features, path = 640_000, 784, sys.argv[1]
with open(path, "wb") as file:
    os.truncate(file.fileno(), 4 * n_rows * n_features)
X = np.memmap(path, dtype=np.float32, shape=(n_rows, n_features), mode="r")
rng = np.random.default_rng(0)
model = RandomizedSmoothingClassifier(LogisticRegression())
model.fit(rng.standard_normal((50, n_features)), np.arange(50) % 2)

def taken():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":") for line in file)
    return int(fields["RssAnon"].split()[0]) / 1000

peak, over = [taken()], threading.Event()

def watch():
    while not over.wait(0.02):
        peak.append(taken())

watcher = threading.Thread(target=watch)
watcher.start()
certificate = certify(model, X)
over.set()
watcher.join()
assert len(certificate) == n_rows and certificate.procedure == "exact"
assert (certificate.radius == certificate.radius[0]).all()
print(peak[0], max(peak))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "rows")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, peak = map(float, done.stdout.split())
    assert peak < 1200  # megabytes, of the 2000 in the file
    assert peak - before < 250
