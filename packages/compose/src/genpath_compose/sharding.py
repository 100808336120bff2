r"""Sharding: particles that are spread over processes, with the law of one process.

    rank r holds rows r n, …, (r+1) n − 1 of R n particles;  ESS, log Ẑ and ancestors are global

At a decision every process gathers all log-weights, so that all see the same sums. The ancestors
A_0 ≤ A_1 ≤ … are drawn by rank 0, with its own rng, and sent to all: given the same weights and
the same random numbers they are those of one process. Rank r is to hold A_{rn}, …, A_{(r+1)n−1}.
As ancestors are sorted, what rank s sends to rank r is one run of rows, and what arrives, ordered
by sender, is already in order: each row is sent at most once per copy (one all-to-all per leaf).
Communication per decision is R n log-weights; rows move only when the population is resampled.

Between decisions processes do not talk. Each moves its rows with its own rng, which must differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from genpath.errors import CapabilityError, ShapeError
from genpath.samplers import Carry
from genpath.states import map_state

from .particles import Particles
from .populations import Resample

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["ShardedResample", "Shards", "gather_particles"]


@dataclass(frozen=True)
class Shards:
    """The rows of all processes of a group are one population; see `populations.Population`.

    Args:
        group: a torch.distributed process group; None for the default one.

    Raises:
        CapabilityError: torch.distributed has not been initialised.
    """

    group: ProcessGroup | None = None
    lazy: bool = False
    """What is sent has sizes, so the decision is read by the host."""

    def __post_init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise CapabilityError(
                "Shards",
                "particles are shared by processes that know each other.",
                got="no process group",
                fix="call torch.distributed.init_process_group first",
            )

    @property
    def rank(self) -> int:
        """The place of this process in the group."""
        return int(dist.get_rank(self.group))

    @property
    def size(self) -> int:
        """How many processes there are."""
        return int(dist.get_world_size(self.group))

    def gathered(self, value: Tensor) -> Tensor:
        """All rows of ``(n, …)``, by rank: ``(R n, …)``.

        Raises:
            ShapeError: the processes have different numbers of rows.
        """
        rows = value.new_tensor([len(value)], dtype=torch.long)
        counts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(counts, rows, group=self.group)
        held = torch.cat(counts).tolist()
        if len(set(held)) > 1:
            raise ShapeError("Shards", "each process holds the same number of rows.", got=str(held))
        pieces = [torch.empty_like(value).contiguous() for _ in range(self.size)]
        dist.all_gather(pieces, value.detach().contiguous(), group=self.group)
        return torch.cat(pieces)

    def agreed(self, index: Tensor) -> Tensor:
        """The ancestors that rank 0 drew."""
        index = index.contiguous()
        dist.broadcast(index, group=self.group, group_src=0)
        return index

    def take(self, state: Any, index: Tensor) -> Any:
        """The rows of the whole population that are to live here: a slot of ``index``."""
        rows = len(index) // self.size
        owner = (index // rows).reshape(self.size, rows)
        # sends[r, s]: how many rows rank r is to hold of those that rank s holds
        sends = torch.zeros(self.size, self.size, dtype=torch.long, device=index.device)
        sends.scatter_add_(1, owner, torch.ones_like(owner))
        table = sends.tolist()
        mine = index[index // rows == self.rank] - self.rank * rows
        outgoing, incoming = [row[self.rank] for row in table], table[self.rank]

        def exchange(leaf: Tensor) -> Tensor:
            sent = leaf.detach().index_select(0, mine).contiguous()
            found = sent.new_empty(rows, *sent.shape[1:])
            dist.all_to_all_single(found, sent, incoming, outgoing, group=self.group)
            return found

        return map_state(exchange, state)

    def numbers(self, rows: int, device: torch.device) -> Tensor:
        """Where the rows here stand in the whole population ``(rows,)``."""
        return torch.arange(rows, device=device) + self.rank * rows


@dataclass(frozen=True)
class ShardedResample:
    """`Resample` for particles that are spread over processes: a transform with the same law.

    Args:
        resample: the rule and the scheme.
        group: a torch.distributed process group; None for the default one.

    Every process calls it, at the same times. The threshold is τ times the number of all rows.
    """

    resample: Resample
    group: ProcessGroup | None = None

    def __call__(self, carry: Carry, t: float, rng: torch.Generator) -> Carry:
        """The carry after the decision of all processes at time ``t``."""
        return self.resample.among(Shards(self.group), carry, t, rng)


def gather_particles(particles: Particles, group: ProcessGroup | None = None) -> Particles:
    """All particles of a sharded run, in every process.

    Args:
        particles: those of this process.
        group: the group of the run; None for the default one.
    """
    shards = Shards(group)
    origin = particles.ancestors
    return replace(
        particles,
        state=map_state(shards.gathered, particles.state),
        log_weight=shards.gathered(particles.log_weight),
        ancestors=None if origin is None else shards.gathered(origin),
    )
