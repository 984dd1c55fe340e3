"""Ray: one torchrun on each machine of a cluster, placed by Ray. https://docs.ray.io/en/latest/ray-core/actors.html"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from luthier.core.errors import UserError
from luthier.core.events import emit
from luthier.launch import child
from luthier.launch.contract import Job, Launch, Target
from luthier.launch.options import Options
from luthier.launch.places import local_places
from luthier.launch.ray_node import Node

PASSED_ON = ("LUTHIER_RUNS", "LUTHIER_DATA")  # paths of the cluster's file system


def _prepare(job: Job) -> Launch:
    arguments = ["-m", "luthier", "run", str(job.path), *job.overrides]
    if job.workers == 1:
        return Launch(("python", *arguments), run=partial(_run, job))
    where = ["--nnodes", str(job.nodes), "--nproc-per-node", str(job.processes)]
    return Launch(("torchrun", *where, *arguments), run=partial(_run, job))


def _run(job: Job) -> None:
    """Start the job's workers on the cluster and wait for all; raises what fits the first failure."""
    with _cluster(job.options.address) as ray:
        nodes = _nodes(ray, job)
        _check_places(ray, nodes[0], job)
        first, port = ray.get(nodes[0].address.remote())
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        results = [
            node.run.remote(job.text, _arguments(job, rank, first, port), environment)
            for rank, node in enumerate(nodes)
        ]
        _wait(ray, nodes, results)


def _arguments(job: Job, rank: int, first: str, port: int) -> list[str]:
    """What Python is called with on one machine; {recipe} stands for the recipe's path there."""
    run = ["-m", "luthier", "run", "{recipe}"]
    if job.workers == 1:
        return run
    where = ["--nnodes", str(job.nodes), "--node-rank", str(rank), "--master-addr", first, "--master-port", str(port)]
    return ["-m", "torch.distributed.run", *where, "--nproc-per-node", str(job.processes), *run]


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster or started here; put away at the end of the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray = import_module("ray")
    except ImportError:
        raise UserError('--on ray needs the library ray: pip install "luthier[ray]"') from None
    asked_to_stop = signal.getsignal(signal.SIGTERM)
    try:
        _check_answers(address)
        ray.init(address=address or "local", include_dashboard=False if address is None else None)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({reason}): start it with `ray start`"
        ) from None
    signal.signal(signal.SIGTERM, asked_to_stop)  # Ray's own would end Luthier before the workers' checkpoint
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str | None) -> None:
    """OSError where nothing listens at host:port, which Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _nodes(ray: Any, job: Job) -> list[Any]:
    """A `Node` on each machine, with its share of processors and GPUs, as far apart as the cluster allows."""
    share = {"CPU": job.options.cpus or job.processes} | ({"GPU": job.gpus} if job.gpus else {})
    _check_room(ray, job, share)
    group = ray.util.placement_group([share] * job.nodes, strategy="SPREAD")
    ray.get(group.ready())
    strategies = import_module("ray.util.scheduling_strategies")
    remote = ray.remote(Node)
    return [
        remote.options(
            num_cpus=share["CPU"],
            num_gpus=job.gpus,
            max_concurrency=2,  # `stop` must be heard while `run` runs
            scheduling_strategy=strategies.PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=index
            ),
        ).remote(str(Path.cwd()))
        for index in range(job.nodes)
    ]


def _check_room(ray: Any, job: Job, share: dict[str, int]) -> None:
    """Refuse what a cluster of this machine alone can never hold; another may grow, so there Luthier waits."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(int(min(found.get(kind, 0) // count for kind, count in share.items())) for found in alive)
    if room >= job.nodes:
        return
    wanted = " and ".join(f"{count} {kind}" for kind, count in share.items())
    words = f"the Ray cluster has room for {room} of {job.nodes} machines with {wanted} each"
    if job.options.address is None:
        raise UserError(f"{words}: ask for fewer --nodes, --processes, --cpus or --gpus")
    emit("launch.waiting", f"{words}; waiting for it to grow")


def _check_places(ray: Any, node: Any, job: Job) -> None:
    try:
        missing = ray.get(node.missing.remote([path for _, path in local_places(job.recipe)]))
    except ray.exceptions.RayError as error:
        raise UserError(
            f"the cluster's machines cannot start luthier ({str(error).strip().splitlines()[-1]}): install the same "
            "version there"
        ) from None
    for key, path in local_places(job.recipe):
        if path in missing:
            raise UserError(
                f"{key} = '{path}' is not on the cluster's machines: put it on a file system that they share, and "
                "write its whole path"
            )


def _wait(ray: Any, nodes: Sequence[Any], results: Sequence[Any]) -> None:
    """Until every machine has ended; when one fails, or somebody stops Luthier, the others are told to stop."""
    waiting, codes = list(results), []
    try:
        while waiting and not any(code for code, _ in codes):
            (ready, *_), waiting = ray.wait(waiting)
            codes.append(ray.get(ready))
    finally:
        if waiting:
            for node in nodes:
                node.stop.remote()
            ray.wait(waiting, num_returns=len(waiting), timeout=60)
    for code, said in codes:
        child.ended(code, f"the last thing they said is: {said}")


def _starts_here(options: Options) -> bool:
    return options.address is None


RAY = Target(prepare=_prepare, takes=("address", "cpus"), here=_starts_here)
