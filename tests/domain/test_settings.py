import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from domain.errors import ConfigError
from domain.settings import Settings, explain, find_home, has_secret, load_settings, mask


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    import os

    for name in list(os.environ):
        if name.startswith(("REVET_", "PREFECT_API", "MLFLOW_TRACKING")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def sources(settings: Settings) -> dict[str, str]:
    return {key: source for key, _, source in explain(settings)}


def test_flags_beat_environment_beats_file_beats_default(monkeypatch, tmp_path):
    (tmp_path / "revet.yaml").write_text("work_pool: from-file\nlog_level: DEBUG\nledger_url: sqlite:///f.db\n")
    monkeypatch.setenv("REVET_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("REVET_LEDGER_URL", "sqlite:///e.db")
    settings = load_settings(home=tmp_path, ledger_url="sqlite:///flag.db")
    assert settings.ledger_url.endswith("/flag.db")
    assert settings.log_level == "WARNING"
    assert settings.work_pool == "from-file"
    found = sources(settings)
    assert found["ledger_url"] == "flag"
    assert found["log_level"] == "environment REVET_LOG_LEVEL"
    assert found["work_pool"] == str(tmp_path / "revet.yaml")
    assert found["data_dir"] == "default"


def test_every_path_and_url_is_absolute(tmp_path):
    settings = load_settings(home="here", ledger_url="sqlite:///l.db", data_dir="d", mlflow_tracking_uri="runs")
    assert settings.home == tmp_path / "here"
    assert settings.ledger_url == f"sqlite:///{tmp_path}/l.db"
    assert settings.store_url == f"sqlite:///{tmp_path}/here/samples.db"
    assert settings.data_dir == tmp_path / "d"
    assert settings.mlflow_tracking_uri == str(tmp_path / "runs")


def test_relative_paths_of_the_file_count_from_its_folder(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "revet.yaml").write_text("data_dir: sets\n")
    assert load_settings(home=home).data_dir == home / "sets"


def test_the_home_is_the_nearest_revet_folder_above(tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".revet").mkdir()
    assert find_home(inner) == tmp_path / ".revet"


def test_ambient_servers_are_taken_and_named_as_source(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    settings = load_settings(home=tmp_path)
    assert settings.prefect_api_url == "http://127.0.0.1:1/api"
    assert sources(settings)["prefect_api_url"] == "environment PREFECT_API_URL"


def test_running_servers_are_the_weakest_source_above_the_default(monkeypatch, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "services.json").write_text(json.dumps({"mlflow_tracking_uri": "http://127.0.0.1:2"}))
    assert load_settings(home=tmp_path).mlflow_tracking_uri == "http://127.0.0.1:2"
    monkeypatch.setenv("REVET_MLFLOW_TRACKING_URI", "http://127.0.0.1:3")
    assert load_settings(home=tmp_path).mlflow_tracking_uri == "http://127.0.0.1:3"


def test_a_secret_comes_from_a_file_and_is_masked(monkeypatch, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("postgresql+psycopg://user:pa55@db/revet\n")
    monkeypatch.setenv("REVET_LEDGER_URL_FILE", str(secret))
    settings = load_settings(home=tmp_path)
    assert settings.ledger_url == "postgresql+psycopg://user:pa55@db/revet"
    assert has_secret(settings.ledger_url)
    assert not any("pa55" in value for _, value, _ in explain(settings))


def test_a_missing_secret_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("REVET_STORE_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=r"REVET_STORE_URL_FILE names .*absent"):
        load_settings(home=tmp_path)


def test_a_reference_in_the_file_is_expanded_or_named(monkeypatch, tmp_path):
    (tmp_path / "revet.yaml").write_text("ledger_url: postgresql+psycopg://u:${DB_PASSWORD}@db/revet\n")
    with pytest.raises(ConfigError, match="DB_PASSWORD"):
        load_settings(home=tmp_path)
    monkeypatch.setenv("DB_PASSWORD", "pw")
    assert load_settings(home=tmp_path).ledger_url == "postgresql+psycopg://u:pw@db/revet"


@pytest.mark.parametrize(
    ("text", "named"),
    [("ledgr_url: x\n", "ledgr_url"), ("log_level: LOUD\n", "log_level"), ("- a\n", "mapping"), ("a: [\n", "YAML")],
)
def test_a_wrong_file_is_an_error_that_names_the_fault(tmp_path, text, named):
    (tmp_path / "revet.yaml").write_text(text)
    with pytest.raises(ConfigError, match=named):
        load_settings(home=tmp_path)


def test_the_home_cannot_be_moved_by_its_own_file(tmp_path):
    (tmp_path / "revet.yaml").write_text("home: /elsewhere\n")
    with pytest.raises(ConfigError, match="home"):
        load_settings(home=tmp_path)


def test_settings_are_frozen(tmp_path):
    settings = load_settings(home=tmp_path)
    with pytest.raises(ValidationError):
        settings.home = Path("/x")


@pytest.mark.parametrize("value", ["plain", "sqlite:////a/b.db", "http://127.0.0.1:4200/api"])
def test_values_without_credentials_are_shown_as_they_are(value):
    assert mask(value) == value


def test_a_flag_that_is_none_counts_as_not_given(tmp_path):
    assert sources(load_settings(home=tmp_path, work_pool=None))["work_pool"] == "default"
