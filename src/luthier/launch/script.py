"""The lines of shell that job files share: the recipe as a heredoc, and the command that starts the workers."""

from __future__ import annotations

from luthier.launch.contract import Job

PORT = 29500  # torch's own default for the first machine


def heredoc(path: str, text: str) -> str:
    """Shell that writes `text`, unchanged, to a path that is already quoted."""
    end = "RECIPE"
    while end in text.splitlines():
        end += "_"
    return f"cat > {path} <<'{end}'\n{text.rstrip()}\n{end}\n"


def workers(job: Job, recipe: str, rank: str = "0", first: str = "", port: str = str(PORT)) -> str:
    """The command that starts a machine's workers; recipe, rank, first machine and port are words of shell."""
    if job.workers == 1:
        return f"python -m luthier run {recipe}"
    place = "--standalone --nnodes 1"
    if job.nodes > 1:
        place = f"--nnodes {job.nodes} --node-rank {rank} --master-addr {first} --master-port {port}"
    return f"torchrun {place} --nproc-per-node {job.processes} -m luthier run {recipe}"
