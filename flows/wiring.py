"""The composition root of the flows: the only place that turns settings into collaborators."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from domain.errors import ConfigError
from domain.features import NAME_PATTERN, FeatureSpace, load_feature_space
from domain.monitor import Monitor, load_monitor, parse_monitor
from domain.settings import Settings, load_settings
from evaluation.detectors.detector import Detector
from registry.content import ContentStore
from registry.heads import Head, head
from registry.ledger.engine import Ledger
from registry.models import ModelRegistry
from registry.tracking import Tracker
from samples.sources import Source, open_source, store_url
from samples.store import SampleStore


@dataclass(frozen=True)
class Loop:
    """Everything that a step of the loop talks to."""

    settings: Settings

    @cached_property
    def ledger(self) -> Ledger:
        """The system of record, upgraded to the newest revision."""
        ledger = Ledger(self.settings.ledger_url)
        ledger.upgrade()
        return ledger

    @cached_property
    def content(self) -> ContentStore:
        """Content-addressed bytes: windows, row sets, reports, detectors."""
        return ContentStore(self.settings.content_dir)

    @cached_property
    def models(self) -> ModelRegistry:
        """Registered models in MLflow."""
        return ModelRegistry(self.settings.mlflow_tracking_uri, self.settings.cache_dir)

    @cached_property
    def tracker(self) -> Tracker:
        """Runs in MLflow."""
        return Tracker(self.settings.mlflow_tracking_uri)

    def monitor_path(self, name: str) -> Path:
        """Return where the workspace keeps the file of monitor `name`."""
        return self.settings.monitors_dir / f"{name}.yaml"

    def monitor(self, name: str) -> Monitor:
        """Return the monitor `name`: the workspace's own file, else the shipped one.

        Raises:
            ConfigError: neither exists, the name is none, the file is wrong, or it bears another name inside.
        """
        if not re.fullmatch(NAME_PATTERN, name):  # before it becomes a part of a path
            raise ConfigError(
                f"monitor {name!r}: a name must match {NAME_PATTERN}; see the files in {self.settings.monitors_dir}"
            )
        path = self.monitor_path(name)
        if path.is_file():
            found = load_monitor(path)
        else:
            shipped = resources.files("samples") / "catalogue" / "monitors" / f"{name}.yaml"
            if not shipped.is_file():
                raise ConfigError(
                    f"monitor {name!r}: no file {path} and no shipped monitor; make one with `revet init`"
                )
            found = parse_monitor(shipped.read_text(encoding="utf-8"), f"shipped monitor {name!r}")
        if found.name != name:
            raise ConfigError(f"{path}: the file is called {name!r} but `name` is {found.name!r}; make them equal")
        return found

    def space(self, monitor: Monitor) -> FeatureSpace:
        """Return the feature space of `monitor`; relative paths count from the workspace's monitor folder."""
        return load_feature_space(monitor.feature_space, self.settings.monitors_dir)

    def source(self, monitor: Monitor) -> Source:
        """Return where the production samples of `monitor` come from."""
        return open_source(monitor.source, self.settings.store_url)

    def labels(self, monitor: Monitor) -> SampleStore:
        """Return the store that holds the labels: the monitor's own, else the workspace's."""
        return SampleStore(store_url(monitor.source, self.settings.store_url))

    def head(self, name: str) -> Head:
        """Return the champion's ledger row.

        Raises:
            ConfigError: the monitor was never bootstrapped.
        """
        found = head(self.ledger, name)
        if found is None:
            raise ConfigError(f"monitor {name!r} has no champion yet: run its `bootstrap` deployment first")
        return found

    def detector(self, name: str, version: int, digest: str) -> Detector:
        """Return a registered version, its bytes verified against the ledger's digest before they are parsed."""
        found = Detector.from_files(self.models.fetch(name, version, digest))
        space = self.space(self.monitor(name))
        if found.space.digest != space.digest:
            raise ConfigError(
                f"feature space {space.name!r} of monitor {name!r} is not the one of version {version}: every number "
                "would compare unlike things; undo the change, or bootstrap a monitor of another name"
            )
        return found

    def champion(self, name: str) -> tuple[Head, Detector]:
        """Return the head and the detector that it names."""
        current = self.head(name)
        return current, self.detector(name, current.version, current.digest)


def open_loop(settings: Settings | None = None) -> Loop:
    """Return the collaborators for `settings`, by default those of the environment."""
    return Loop(settings or load_settings())
