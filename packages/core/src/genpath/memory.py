"""Memory: let the C library keep what a step frees, for the next step.

On the CPU a network call frees megabytes that the next call asks for again. glibc hands a freed
block at the top of the heap back to the system once it exceeds a threshold, and every page of it is
then faulted in anew. The threshold is dynamic (mallopt(3), M_MMAP_THRESHOLD): it becomes twice the
largest block that was ever freed, up to 64 MiB. So one block of 32 MiB, freed untouched, is enough;
it costs microseconds and no memory. Measured on 20 Euler steps of a 4 × 256 network, batch 4096,
one thread: from 31,000 page faults to 0, from 646 to 542 ms.
"""

from __future__ import annotations

import torch

__all__ = ["keep_freed_blocks"]

LARGEST = 32 * 2**20 - 2**13  # the largest block that glibc takes into account, with its header


def keep_freed_blocks() -> None:
    """Raise glibc's thresholds to their largest dynamic values; elsewhere nothing changes.

    Runs call it when they start. Call it in a program of your own before a loop over small
    networks; the process then holds up to 64 MiB of freed memory.

    Example:
        >>> keep_freed_blocks()
    """
    torch.empty(LARGEST, dtype=torch.uint8)
