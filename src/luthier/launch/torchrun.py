"""torchrun on this machine, alone or as one of several. https://docs.pytorch.org/docs/stable/elastic/run.html"""

from __future__ import annotations

import sys
from functools import partial

from luthier.core.errors import UserError
from luthier.launch import child
from luthier.launch.contract import Job, Launch, Target


def _prepare(job: Job) -> Launch:
    arguments = ("-m", "luthier", "run", str(job.path), *job.overrides)
    if job.workers == 1:
        return Launch(("python", *arguments), run=partial(child.run, (sys.executable, *arguments)))
    arguments = (*_rendezvous(job), "--nproc-per-node", str(job.processes), *arguments)
    here = (sys.executable, "-m", "torch.distributed.run", *arguments)
    return Launch(("torchrun", *arguments), run=partial(child.run, here))


def _rendezvous(job: Job) -> tuple[str, ...]:
    """How the machines find each other: the same words on all of them."""
    if job.nodes == 1:
        if job.options.address:
            raise UserError("--address does nothing on one machine: leave it out, or give --nodes")
        return ("--standalone", "--nnodes", "1")
    host, _, port = (job.options.address or "").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"--nodes {job.nodes} needs --address HOST:PORT, the first machine and a free port there; give the same "
            "command on every machine"
        )
    where = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{host}:{port}", "--rdzv-id", job.name)
    return ("--nnodes", str(job.nodes), *where)


TORCHRUN = Target(prepare=_prepare, takes=("address",), here=lambda options: True)
