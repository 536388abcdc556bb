"""Where a workspace keeps its state and which servers it talks to.

Precedence: flags > environment (`REVET_*`) > `revet.yaml` in the workspace's home > defaults.
Every path and URL is absolute after loading, because a worker runs flows in a temporary folder.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from domain.errors import ConfigError
from domain.features import describe_validation_error

HOME_FOLDER = ".revet"
SETTINGS_FILE = "revet.yaml"
SERVICES_FILE = Path("run") / "services.json"
ENVIRONMENT_PREFIX = "REVET_"
AMBIENT = {"prefect_api_url": "PREFECT_API_URL", "mlflow_tracking_uri": "MLFLOW_TRACKING_URI"}
_PATHS = ("home", "content_dir", "data_dir")
_URLS = ("ledger_url", "store_url", "mlflow_tracking_uri")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def find_home(start: Path) -> Path:
    """Return the nearest `.revet` folder at or above `start`, else the one that would be made in `start`."""
    for folder in (start, *start.parents):
        if (folder / HOME_FOLDER).is_dir():
            return folder / HOME_FOLDER
    return start / HOME_FOLDER


def _absolute_path(value: str | Path, base: Path) -> Path:
    path = Path(value).expanduser()
    return path if path.is_absolute() else (base / path).resolve()


def _absolute_url(url: str, base: Path) -> str:
    """Return `url` with a relative SQLite file or folder made absolute under `base`."""
    scheme, separator, rest = url.partition(":///")
    if separator and scheme.startswith("sqlite") and rest not in {"", ":memory:"}:
        return f"{scheme}:///{_absolute_path(rest, base)}"
    if url and "://" not in url and not url.startswith(("databricks", "file:")):
        return str(_absolute_path(url, base))
    return url


def _absolute(values: dict[str, Any], base: Path) -> dict[str, Any]:
    done = dict(values)
    for key in _PATHS:
        if done.get(key):
            done[key] = _absolute_path(done[key], base)
    for key in _URLS:
        if done.get(key):
            done[key] = _absolute_url(str(done[key]), base)
    return done


def expand(value: Any, origin: str = SETTINGS_FILE) -> Any:
    """Return `value` with `${NAME}` replaced by the environment's value, so that no secret must stand in a file.

    Raises:
        ConfigError: a name is not set; `origin` says where it stands.
    """
    if not isinstance(value, str):
        return value
    missing = [name for name in _REFERENCE.findall(value) if name not in os.environ]
    if missing:
        raise ConfigError(f"{origin}: ${{{missing[0]}}} is not set; export {missing[0]} or write the value")
    return _REFERENCE.sub(lambda match: os.environ[match.group(1)], value)


class _Environment(EnvSettingsSource):
    """`REVET_*`, `REVET_*_FILE` for secrets, then `PREFECT_API_URL` and `MLFLOW_TRACKING_URI`."""

    origins: dict[str, str]

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        self.origins = {key: f"environment {ENVIRONMENT_PREFIX}{key.upper()}" for key in values}
        for key in self.settings_cls.model_fields:
            named = f"{ENVIRONMENT_PREFIX}{key.upper()}_FILE"
            if key not in values and os.environ.get(named):
                values[key] = _read_secret(named, Path(os.environ[named]))
                self.origins[key] = f"environment {named}"
        for key, named in AMBIENT.items():
            if key not in values and os.environ.get(named):
                values[key] = os.environ[named]
                self.origins[key] = f"environment {named}"
        return _absolute(values, Path.cwd())


def _read_secret(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{name} names {path}, which cannot be read: {error}") from error


class _HomeFile(YamlConfigSettingsSource):
    """`revet.yaml`: relative paths count from the home, `${NAME}` is taken from the environment."""

    def __call__(self) -> dict[str, Any]:
        values = {key: expand(value) for key, value in super().__call__().items()}
        if "home" in values:
            raise ConfigError(f"{self.yaml_file_path}: `home` is the folder of this file and cannot be set in it")
        return _absolute(values, Path(str(self.yaml_file_path)).parent)


def running_services(home: Path) -> dict[str, str]:
    """Return the addresses of the servers that `revet up` started for the workspace, empty when none run."""
    with suppress(OSError, ValueError, AttributeError):
        written = json.loads((home / SERVICES_FILE).read_text(encoding="utf-8"))
        return {key: str(written[key]) for key in AMBIENT if written.get(key)}
    return {}


class Settings(BaseSettings):
    """Settings of one workspace, frozen and absolute.

    Attributes:
        home: folder of everything that the workspace keeps.
        ledger_url: SQLAlchemy URL of the ledger.
        store_url: SQLAlchemy URL of the sample store.
        content_dir: folder of the content-addressed window store.
        data_dir: folder of the benchmark sets.
        prefect_api_url: API of the Prefect server; empty means that `revet up` starts one.
        mlflow_tracking_uri: MLflow server; empty means that `revet up` starts one.
        work_pool: name of the Prefect work pool.
        log_level: level of Revet's own log lines.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    home: Path
    ledger_url: str
    store_url: str
    content_dir: Path
    data_dir: Path
    prefect_api_url: str = ""
    mlflow_tracking_uri: str = ""
    work_pool: str = Field(default="revet", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._ -]*$")
    log_level: LogLevel = "INFO"
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, **flags: Any) -> None:
        super().__init__(**flags)
        environment = _Environment(type(self))
        environment()
        in_file = _HomeFile(type(self), yaml_file=self.home / SETTINGS_FILE)()
        self._origins = dict.fromkeys(running_services(self.home), str(self.home / SERVICES_FILE))
        self._origins |= {key: str(self.home / SETTINGS_FILE) for key in in_file}
        self._origins |= environment.origins
        self._origins |= dict.fromkeys(flags, "flag")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return flags, environment and `revet.yaml`, strongest first."""
        del env_settings, dotenv_settings, file_secret_settings
        environment = _Environment(settings_cls)
        flags = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        home = flags.get("home") or environment().get("home") or find_home(Path.cwd())
        in_file = _HomeFile(settings_cls, yaml_file=_absolute_path(home, Path.cwd()) / SETTINGS_FILE)
        return init_settings, environment, in_file

    @model_validator(mode="before")
    @classmethod
    def _fill_from_home(cls, values: dict[str, Any]) -> dict[str, Any]:
        done = _absolute(values, Path.cwd())
        home = done.setdefault("home", find_home(Path.cwd()))
        done.setdefault("ledger_url", f"sqlite:///{home / 'ledger.db'}")
        done.setdefault("store_url", f"sqlite:///{home / 'samples.db'}")
        done.setdefault("content_dir", home / "content")
        done.setdefault("data_dir", home / "data")
        return {**running_services(home), **done}

    @property
    def monitors_dir(self) -> Path:
        """Folder of the user's monitor files."""
        return self.home / "monitors"

    @property
    def spaces_dir(self) -> Path:
        """Folder of the user's feature spaces."""
        return self.home / "spaces"

    @property
    def cache_dir(self) -> Path:
        """Folder of verified copies of artifacts; may be removed at any time."""
        return self.home / "cache"

    @property
    def logs_dir(self) -> Path:
        """Folder of the logs of the servers that Revet started."""
        return self.home / "logs"

    @property
    def run_dir(self) -> Path:
        """Folder of the pid files of the servers that Revet started."""
        return self.home / "run"

    def origin(self, key: str) -> str:
        """Return where the value of `key` comes from."""
        return self._origins.get(key, "default")


def load_settings(**flags: Any) -> Settings:
    """Return the settings of the workspace; a flag that is None counts as not given.

    Raises:
        ConfigError: a value breaks its rule, or `revet.yaml` cannot be read.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigError(f"settings: {describe_validation_error(error)}") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{SETTINGS_FILE}: expected a mapping of settings in YAML: {error}") from error


def mask(value: str) -> str:
    """Return `value` with the password of a URL replaced by stars."""
    if "://" not in value:
        return value
    parts = urlsplit(value)
    if "@" not in parts.netloc:
        return value
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}" if ":" in user else f"***@{host}"))


def has_secret(value: str) -> bool:
    """Return whether `value` is a URL that carries credentials."""
    return mask(value) != value


def explain(settings: Settings) -> list[tuple[str, str, str]]:
    """Return key, value with secrets masked, and source of each setting, in the order of the class."""
    return [(key, mask(str(getattr(settings, key))), settings.origin(key)) for key in type(settings).model_fields]
