"""What was written to each tracker, read back with its own means: name -> [(step, value), ...] in order."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

Written = dict[str, list[tuple[int, float]]]


def from_tensorboard(run: Path, variant: Path) -> Written:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(variant / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def from_mlflow(run: Path, variant: Path) -> Written:
    client, mlflow_run = mlflow_of(f"sqlite:///{run / 'mlflow.db'}", "luthier")
    histories = {name: client.get_metric_history(mlflow_run.info.run_id, name) for name in mlflow_run.data.metrics}
    return {name: [(m.step, m.value) for m in history] for name, history in histories.items()}


def mlflow_of(uri: str, experiment: str):
    """The client, and the only run of this experiment."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return client, found


def from_wandb(run: Path, variant: Path) -> Written:
    found: Written = {}
    for record in wandb_records(run):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for name in row.keys() - {"_step", "_timestamp", "_runtime"}:
                found.setdefault(name, []).append((row["_step"], row[name]))
    return found


def wandb_records(run: Path) -> list:
    """The records of the only offline run below this folder; W&B's own process writes the last when it likes."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    while True:
        records = [Record.FromString(body) for body in log_records(path.read_bytes())]
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.01)


def log_records(body: bytes, block: int = 2**15, header: int = 7) -> Iterator[bytes]:
    """The records of LevelDB's log format, W&B's own: checksum, length, kind (whole, first, middle, last)."""
    at, whole = header, b""
    while at + header <= len(body):
        if block - at % block < header:  # what is left of a block is too short for another record
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", body[at : at + header])
        whole += body[at + header : at + header + length]
        at += header + length
        if kind in (1, 4):
            yield whole
            whole = b""


READERS = {"tensorboard": from_tensorboard, "mlflow": from_mlflow, "wandb": from_wandb}
