"""MLflow: a database in the run folder, or the server that the recipe or `MLFLOW_TRACKING_URI` names."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, field_validator

from luthier.trackers.contract import Followed, Scalars, TrackerEntry

URI = "MLFLOW_TRACKING_URI"
DATABASE = "mlflow.db"
METRICS, SETTINGS = 1000, 100  # that MLflow takes at once
UNNAMABLE = re.compile(r"[^\w.\- :/]")  # what it refuses in a name


class MLflowConfig(BaseModel):
    """Where the runs are kept; credentials come from MLflow's own environment variables alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str | None = None
    """A server or database; default: `MLFLOW_TRACKING_URI`, else `mlflow.db` in the run folder."""
    experiment: str = "luthier"
    """The experiment that the runs belong to; made where it is not there."""

    @field_validator("uri")
    @classmethod
    def _without_password(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).password is not None:
            raise ValueError(
                "holds a password, which would be written into the run folder: leave it out and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the whole address as MLFLOW_TRACKING_URI"
            )
        return value


class MLflow:
    """One MLflow run."""

    def __init__(self, followed: Followed, config: MLflowConfig) -> None:
        """Go on with the run that this training has begun, or begin it with the settings as its parameters."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent but what the user asked for
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        uri = config.uri or os.environ.get(URI) or f"sqlite:///{followed.run.resolve() / DATABASE}"
        self._client = MlflowClient(tracking_uri=uri)
        known = followed.identity("mlflow")
        self._old = known is not None and self._there(known)
        if known is not None and self._old:
            self._run = known
            self._client.update_run(known, status="RUNNING")
        else:
            self._run = self._begin(followed, config.experiment)

    def _there(self, run: str) -> bool:
        """Whether the server, which may be another one than before, knows the run."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return True

    def _begin(self, followed: Followed, experiment: str) -> str:
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else self._client.create_experiment(experiment)
        run = self._client.create_run(place, run_name=followed.title).info.run_id
        settings = [Param(UNNAMABLE.sub("_", name), str(value)) for name, value in followed.settings.items()]
        for start in range(0, len(settings), SETTINGS):
            self._client.log_batch(run, params=settings[start : start + SETTINGS])
        followed.keep_identity("mlflow", run)
        return run

    def last(self, name: str) -> int:
        """The last step of this name on the server."""
        held = self._client.get_metric_history(self._run, name) if self._old else []
        return max((metric.step for metric in held), default=-1)

    def write(self, points: Sequence[Scalars]) -> None:
        """Send the points, as many at once as MLflow takes."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for step, values in points for name, value in values.items()]
        for start in range(0, len(metrics), METRICS):
            self._client.log_batch(self._run, metrics=metrics[start : start + METRICS])

    def close(self, finished: bool) -> None:
        """Mark the run as finished, or as one that will go on."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


def _open(followed: Followed, config: Any) -> MLflow:
    return MLflow(followed, config)


MLFLOW = TrackerEntry(
    MLflowConfig,
    modules=("mlflow.tracking", "sqlalchemy", "alembic"),
    packages="mlflow-skinny, sqlalchemy and alembic",
    open=_open,
)
