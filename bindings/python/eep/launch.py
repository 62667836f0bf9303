# SPDX-License-Identifier: Apache-2.0
"""How this process was launched (eep/launch.h): rank and size, out of its launcher's variables."""
from dataclasses import dataclass
from typing import Optional, Union

from .errors import check
from .loading import lib, text_of
from .reports import sized


@dataclass(frozen=True)
class Launch:
    """What the environment says about this process. None, or "": no variable says it."""

    rank: Union[int, str, None]  # the seat; "any": a free one
    num_ranks: Optional[int]     # ranks of the first view
    local_rank: Optional[int]    # among the ranks of this host
    local_size: Optional[int]    # ranks of this host
    store: str
    address: str                 # of this host, or an interface: EEP_NETWORK_INTERFACE
    leader: str                  # address of the host of rank 0
    source: str                  # which variable each was read from, in words


def launch() -> Launch:
    """Read EEP_*, or the variables of torchrun, Open MPI, PMIx, Slurm or LWS (docs/DEPLOY.md).
    `Invalid` names what is malformed, or the two variables that disagree, with their values."""
    it = sized("eep_launch_info")
    check(lib.eep_launch_read(it), "eep_launch_read")
    rank = "any" if it.rank == lib.EEP_RANK_ANY else it.rank if it.rank >= 0 else None
    return Launch(rank, it.num_ranks or None, it.local_rank if it.local_rank >= 0 else None,
                  it.local_size or None, text_of(it.store), text_of(it.address),
                  text_of(it.leader), text_of(it.source))
