"""Experiment trackers behind the face of a hook: TensorBoard, Weights & Biases, MLflow, trackio.

Each gets the run's settings, the code's revision, the machine and every number of every log line. All
of it stays in a local folder, unless the tracker's own environment variables (`WANDB_MODE=online`,
`MLFLOW_TRACKING_URI`, `TRACKIO_SPACE_ID`) say otherwise. `metrics.jsonl` is written with or without them.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from pathlib import Path
from typing import Any

from ingot.errors import ConfigError, did_you_mean
from ingot.train.hooks import Run
from ingot.train.tracking import Tracker


class TensorBoard(Tracker):
    """Event files in `<folder>/tensorboard`, for `tensorboard --logdir`."""

    library = "tensorboard"

    def open(self, run: Run, name: str, facts: dict[str, str], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder / "tensorboard" / name
        # What a killed process logged after its last checkpoint comes again: it is taken back here.
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        rows = "".join(f"| {key} | {value} |\n" for key, value in facts.items())
        self._writer.add_text("facts", "| | |\n|---|---|\n" + rows, step)

    def log(self, lines: list[tuple[int, dict[str, float]]]) -> None:
        for step, numbers in lines:
            for key, value in numbers.items():
                self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def end(self, exit_code: int) -> None:
        self._writer.close()


class WandB(Tracker):
    """Weights & Biases, offline in `<folder>/wandb` unless WANDB_MODE says online; `wandb sync` sends it."""

    library = "wandb"

    def open(self, run: Run, name: str, facts: dict[str, str], step: int) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would send crash reports
        wandb = importlib.import_module("wandb")
        self._run_there = wandb.init(
            project=self.project,
            name=name,
            id=name,
            dir=str(self.folder),
            config=facts,
            mode=mode,
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, lines: list[tuple[int, dict[str, float]]]) -> None:
        for step, numbers in lines:
            self._run_there.log(numbers, step=step)

    def end(self, exit_code: int) -> None:
        self._run_there.finish(exit_code=exit_code)


class MLflow(Tracker):
    """MLflow, in `<folder>/mlflow.db` unless MLFLOW_TRACKING_URI names a server."""

    library = "mlflow"

    def open(self, run: Run, name: str, facts: dict[str, str], step: int) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        mlflow = importlib.import_module("mlflow")
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        local = f"sqlite:///{self.folder / 'mlflow.db'}"
        place = os.environ.get("MLFLOW_TRACKING_URI", local)
        self._client = mlflow.MlflowClient(tracking_uri=place, registry_uri=place)
        found = self._client.get_experiment_by_name(self.project)
        files = (self.folder / "mlflow").as_uri() if place == local else None
        experiment = (
            self._client.create_experiment(self.project, artifact_location=files)
            if found is None
            else found.experiment_id
        )
        known = self._client.search_runs([experiment], f"attributes.run_name = '{name}'", max_results=1)
        if known:
            self._id = known[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(experiment, run_name=name).info.run_id
            for key, value in facts.items():
                self._client.log_param(self._id, _mlflow_key(key), value[:6000])

    def log(self, lines: list[tuple[int, dict[str, float]]]) -> None:
        entities = importlib.import_module("mlflow.entities")
        now = int(1000 * time.time())
        metrics = [
            entities.Metric(_mlflow_key(key), value, now, step)
            for step, numbers in lines
            for key, value in numbers.items()
        ]
        for start in range(0, len(metrics), 1000):  # the most that one request may hold
            self._client.log_batch(self._id, metrics=metrics[start : start + 1000])

    def end(self, exit_code: int) -> None:
        status = {0: "FINISHED", 130: "KILLED", 143: "KILLED"}.get(exit_code, "FAILED")
        self._client.set_terminated(self._id, status)


def _mlflow_key(key: str) -> str:
    """A key in the characters that MLflow allows."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in key)


class Trackio(Tracker):
    """trackio, in `<folder>/trackio` unless TRACKIO_DIR or TRACKIO_SPACE_ID say otherwise."""

    library = "trackio"
    extra = "trackio"

    def open(self, run: Run, name: str, facts: dict[str, str], step: int) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(self.folder / "trackio"))  # it is read at import
        self._trackio = importlib.import_module("trackio")
        self._run_there = self._trackio.init(
            project=self.project,
            name=name,
            config=facts,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, lines: list[tuple[int, dict[str, float]]]) -> None:
        for step, numbers in lines:
            self._run_there.log(numbers, step=step)

    def end(self, exit_code: int) -> None:
        self._trackio.finish()  # not the run's own, which would be called again at exit


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def tracker(name: str, folder: Path, project: str = "ingot") -> Tracker:
    """Returns a tracker by name.

    Args:
        name: tensorboard, wandb, mlflow or trackio.
        folder: takes its local files (`runs/demo/tracking`).
        project: groups runs.

    Raises:
        ConfigError: no such tracker.
        ResourceError: its library is not installed.

    Example:
        >>> tracker("tensorboard", Path("runs/demo/tracking"))                # doctest: +SKIP
    """
    if name not in TRACKERS:
        raise ConfigError(f"unknown tracker '{name}'", where="track", fix=did_you_mean(name, TRACKERS))
    return TRACKERS[name](folder, project)
