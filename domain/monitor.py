"""The monitor file: everything Revet must know to keep one detector trustworthy, in one YAML file."""

from __future__ import annotations

import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from domain.digests import digest_json
from domain.errors import ConfigError
from domain.features import NAME_PATTERN, Level, describe_validation_error

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveShare = Annotated[float, Field(gt=0.0, lt=1.0)]
Norm = Literal["linf", "l2"]
FlowName = Literal["reevaluate", "reconcile"]


class Section(BaseModel):
    """Base of all parts of the file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSettings(Section):
    """Where production samples come from.

    Attributes:
        kind: `store` is a sample store on a SQLAlchemy database, `parquet` a folder of Parquet files.
        url: database URL of the store; empty means the store of the workspace. Secrets as `${ENV}`.
        path: folder of the Parquet source; an absolute path, since a worker runs elsewhere.
        allowed_lateness_hours: how far behind the newest ingest time rows may still commit.
    """

    kind: Literal["store", "parquet"] = "store"
    url: str = ""
    path: str = ""
    allowed_lateness_hours: Annotated[float, Field(ge=0)] = 24.0

    @model_validator(mode="after")
    def _parquet_has_a_path(self) -> Self:
        if self.kind == "parquet" and not self.path:
            raise ValueError("a parquet source needs `path`")
        return self


class BenchmarkSettings(Section):
    """The labelled data that a detector is first trained on, calibrated with and benchmarked against.

    Attributes:
        dataset: a name of the catalogue (`revet data list`) or the path of a Parquet or CSV file.
        label: column with 1 or true for malicious; catalogue sets know their own.
        family: column that names the threat family, for metrics per family; optional.
        cluster: column of rows that belong together (host, campaign); bootstraps and splits respect it.
        time: column with the event time, for splits in time; optional.
        test_share: share of clusters that is kept for the clean benchmark.
    """

    dataset: str
    label: str = "label"
    family: str = ""
    cluster: str = ""
    time: str = ""
    test_share: PositiveShare = 0.3


class ThreatSettings(Section):
    """The attacker: level, norm and budget in model space, and the budgets of the curve.

    Attributes:
        level: which mutability and cost of the feature space hold.
        norm: how the size of a change is measured in model space, each column weighted by its cost.
        epsilon: the budget that verdict and gate are about; 1 moves a column of cost 1 over its whole range.
        curve: further budgets, for the curve of the robust detection rate.
        knowledge: `white-box` sees gradients; `score` and `label` leave out the attacks that need them.
    """

    level: Level = "expected"
    norm: Norm = "linf"
    epsilon: Annotated[float, Field(gt=0, le=16)] = 0.2
    curve: tuple[Annotated[float, Field(ge=0, le=16)], ...] = (0.0, 0.05, 0.1, 0.2, 0.4)
    knowledge: Literal["white-box", "score", "label"] = "white-box"


class PolicySettings(Section):
    """What counts as degraded, and how sure Revet must be.

    Attributes:
        window_hours: length of a window.
        bad_windows, of_windows: k of n windows must be bad before the verdict is `degraded`.
        label_horizon_hours: age at which the labels of a window count as complete.
        cool_down_hours: after a promotion no hardening starts for this long.
        detection_tolerance: drop below the baseline's lower bound that is tolerated.
        robust_tolerance: the same for the robust detection rate.
        false_positive_factor: realised rate may be this many times the budget.
        quarantine_limit: share of quarantined rows that is a data fault.
        contradiction_limit: share of labelled rows on which labellers disagree that is a data fault.
        drift_share_limit: share of drifted columns that is reported as drift.
        alpha: family-wise error over the criteria of one window (Holm).
        min_malicious, min_benign: labelled rows below which a window abstains.
        min_label_coverage: share of the rows due for a label that must have one.
        max_hardenings_per_month: budget of automatic hardenings.
        abstentions_to_alarm: consecutive abstentions that raise an alarm.
    """

    window_hours: Annotated[float, Field(gt=0)] = 24.0
    bad_windows: Annotated[int, Field(ge=1)] = 1
    of_windows: Annotated[int, Field(ge=1)] = 3
    label_horizon_hours: Annotated[float, Field(ge=0)] = 24.0
    cool_down_hours: Annotated[float, Field(ge=0)] = 12.0
    detection_tolerance: Share = 0.03
    robust_tolerance: Share = 0.05
    false_positive_factor: Annotated[float, Field(ge=1)] = 2.0
    quarantine_limit: Share = 0.02
    contradiction_limit: Share = 0.05
    drift_share_limit: Share = 0.3
    alpha: PositiveShare = 0.01
    min_malicious: Annotated[int, Field(ge=1)] = 50
    min_benign: Annotated[int, Field(ge=1)] = 200
    min_label_coverage: Share = 0.8
    max_hardenings_per_month: Annotated[int, Field(ge=0)] = 10
    abstentions_to_alarm: Annotated[int, Field(ge=1)] = 3

    @model_validator(mode="after")
    def _k_is_at_most_n(self) -> Self:
        if self.bad_windows > self.of_windows:
            raise ValueError(f"bad_windows ({self.bad_windows}) may not exceed of_windows ({self.of_windows})")
        return self


class HardeningSettings(Section):
    """The recipe of adversarial training.

    Attributes:
        epochs: passes over the training rows; a challenger with warm start takes fewer.
        batch_size: rows of one step.
        learning_rate: of AdamW.
        hidden: widths of the hidden layers.
        adversarial_share: weight of attacked malicious rows against clean malicious rows (beta).
        attack_steps: steps of the inner attack in the last phase.
        warm_start: race a challenger that starts from the champion's weights against one from scratch.
        ema_decay: of the moving average of the weights.
        max_rows: training rows beyond this are sampled.
        max_poison_share: share of a labelled batch that the screen may drop before it refuses the batch.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 20
    batch_size: Annotated[int, Field(ge=16)] = 512
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    hidden: tuple[Annotated[int, Field(ge=2, le=4096)], ...] = (128, 128)
    adversarial_share: Share = 0.5
    attack_steps: Annotated[int, Field(ge=1, le=100)] = 3
    warm_start: bool = True
    ema_decay: PositiveShare = 0.995
    max_rows: Annotated[int, Field(ge=100)] = 60_000
    max_poison_share: Share = 0.1


class GateSettings(Section):
    """What a challenger must prove.

    Attributes:
        clean_margin, robust_margin: detection rate that may be lost against the champion; production: clean_margin.
        false_positive_factor: realised rate may be this many times the budget; in production it may rise by the rest.
        slice_margin: a slice blocks when it is worse by more than this, proven after Holm's correction.
        alpha: error of each test.
        min_malicious: malicious rows without which nothing is promoted.
        anchor_margin: clean or robust rate that all promotions together may lose against the frozen anchor.
        approval: `none` promotes on a passed gate, `required` waits for a person.
    """

    clean_margin: Share = 0.02
    robust_margin: Share = 0.02
    anchor_margin: Share = 0.05
    slice_margin: Share = 0.05
    false_positive_factor: Annotated[float, Field(ge=1)] = 2.0
    alpha: PositiveShare = 0.05
    min_malicious: Annotated[int, Field(ge=1)] = 100
    approval: Literal["none", "required"] = "none"


class ScheduleSettings(Section):
    """When a flow runs by itself; what is edited in the Prefect UI wins over this.

    Attributes:
        flow: which flow.
        cron: five fields: minute, hour, day of the month, month, day of the week.
        timezone: IANA name such as `Europe/Berlin` or `UTC`.
        active: whether the schedule starts switched on.
    """

    flow: FlowName = "reevaluate"
    cron: str
    timezone: str
    active: bool = True

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        if value not in zoneinfo.available_timezones():
            raise ValueError("not an IANA time zone such as 'Europe/Berlin' or 'UTC'")
        return value

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        if len(value.split()) != 5:
            raise ValueError("a cron line has five fields: minute hour day-of-month month day-of-week")
        return value


class AlertSettings(Section):
    """Apprise URLs as `${ENV}` references, so that no secret stands in the file; nothing is sent there yet."""

    urls: tuple[str, ...] = ()

    @field_validator("urls")
    @classmethod
    def _only_references(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not (url.startswith("${") and url.endswith("}")):
                raise ValueError("alert URLs hold secrets: write a reference such as ${REVET_ALERT_URL}")
        return value


class Monitor(Section):
    """One detector under watch.

    Attributes:
        version: of the file format.
        name: of the monitor and of its file; deployments, experiment and registered model are named after it.
        description: for people.
        feature_space: name of a shipped space, or a path that counts from the folder of the monitor files.
        false_positive_budget: share of benign rows that may be alerted on; the operating point is frozen to it.
        prevalence: share of malicious rows in production, for alerts a day.
        daily_volume: rows a day in production, for alerts a day.
        suite: attacks that the champion must survive.
        robust_rows: malicious rows that are attacked in one measurement, at most.
        contract: file with hand-written expectations, from the folder of the monitor files; empty for none.
        seed: of splits, training, samples and attacks.
    """

    version: Literal[1]
    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    feature_space: str
    benchmark: BenchmarkSettings
    source: SourceSettings = SourceSettings()
    false_positive_budget: PositiveShare = 0.01
    prevalence: PositiveShare = 0.01
    daily_volume: Annotated[int, Field(ge=1)] = 100_000
    threat: ThreatSettings = ThreatSettings()
    suite: Literal["quick"] = "quick"
    robust_rows: Annotated[int, Field(ge=20)] = 400
    policy: PolicySettings = PolicySettings()
    hardening: HardeningSettings = HardeningSettings()
    gate: GateSettings = GateSettings()
    schedules: tuple[ScheduleSettings, ...] = ()
    alerts: AlertSettings = AlertSettings()
    contract: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical content."""
        return digest_json(self.model_dump(mode="json"))


def parse_monitor(text: str, origin: str) -> Monitor:
    """Parse the YAML of a monitor; every fault is reported at once with file, key, value and rule.

    Raises:
        ConfigError: the text is not a valid monitor.
    """
    try:
        data: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{origin}: expected a mapping that starts with `version: 1`, got {type(data).__name__}")
    try:
        return Monitor.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {describe_validation_error(error)}") from error


def load_monitor(path: Path) -> Monitor:
    """Read the monitor file at `path`.

    Raises:
        ConfigError: the file is missing, unreadable or wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"monitor file {path} cannot be read: {error}") from error
    return parse_monitor(text, str(path))
