"""Memory that is freed after one batch, and taken again for the next."""

from __future__ import annotations

import torch

#: The largest block that glibc learns from has 32 MiB; some of it is the allocator's.
_BLOCK = 2**25 - 2**16


def keep_freed_memory() -> None:
    """Keep memory that is freed for the next batch, where glibc allocates it.

    By default glibc hands large blocks back to the system when they are freed, and takes them from
    it again, filled with zeros page by page: that can take as long as the forward passes. From a
    large block that is freed it learns that large blocks come and go, and each thread keeps up to
    64 MB.

    References
    ----------
    The manual page of mallopt, ``M_MMAP_THRESHOLD``.
    """
    torch.empty(_BLOCK, dtype=torch.uint8, device="cpu")
