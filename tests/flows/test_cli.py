import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from domain.errors import (
    ArtifactTampered,
    AttackError,
    ConfigError,
    CorruptFile,
    Frozen,
    RevetError,
    ServiceUnavailable,
)
from domain.monitor import Monitor
from flows.cli.main import app, exit_code

runner = CliRunner()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    import os

    for name in list(os.environ):
        if name.startswith(("REVET_", "PREFECT_API", "MLFLOW_TRACKING")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def revet(*arguments, home: Path):
    return runner.invoke(app, ["--home", str(home), *map(str, arguments)])


def as_json(*arguments, home: Path):
    result = revet(*arguments, "--json", home=home)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError, 2),
        (CorruptFile, 3),
        (ServiceUnavailable, 4),
        (Frozen, 5),
        (ArtifactTampered, 6),
        (AttackError, 7),
        (RevetError, 1),
    ],
)
def test_each_kind_of_error_has_its_exit_status(error, code):
    assert exit_code(error("x")) == code


def test_an_error_is_printed_without_a_traceback(tmp_path):
    command = [sys.executable, "-c", "from flows.cli.main import main; main()", "--home", str(tmp_path), "deploy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: ")
    assert "revet init" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_does_not_import_the_heavy_libraries():
    program = (
        "import sys\nfrom flows.cli.main import app\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'evidently', 'great_expectations', 'pandas', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_explains_itself():
    for command in (
        ["init"], ["up"], ["down"], ["demo"], ["deploy"], ["reevaluate"], ["harden"], ["promote"], ["rollback"],
        ["freeze"], ["status"], ["history"], ["labels", "import"], ["data", "list"], ["data", "import"],
        ["data", "fetch"], ["doctor"], ["gc"], ["config", "show"], ["schema"],
    ):  # fmt: skip
        result = runner.invoke(app, [*command, "--help"])
        assert result.exit_code == 0, command
        assert "Usage" in result.output


def test_config_show_names_the_source_of_each_value(tmp_path, monkeypatch):
    monkeypatch.setenv("REVET_WORK_POOL", "gpu")
    rows = {row["setting"]: row for row in as_json("config", "show", home=tmp_path)}
    assert rows["work_pool"] == {"setting": "work_pool", "value": "gpu", "source": "environment REVET_WORK_POOL"}
    assert rows["home"]["source"] == "flag"


def test_schema_prints_the_json_schema_of_a_monitor():
    result = runner.invoke(app, ["schema", "monitor"])
    assert json.loads(result.stdout)["title"] == "Monitor"


def test_status_of_an_empty_workspace_is_empty(tmp_path):
    assert as_json("status", home=tmp_path) == {"monitors": [], "freezes": []}


def test_an_unknown_monitor_is_named(tmp_path):
    result = revet("history", "nobody", home=tmp_path)
    assert "nobody" in str(result.exception)
    assert exit_code(result.exception) == 5


def test_history_shows_what_the_gate_judged_and_why(tmp_path):
    from domain.decisions import GateDecision
    from registry.ledger.engine import Ledger
    from registry.reports import put_gate_attempt
    from registry.versions import put_monitor

    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.upgrade()
    dataset = {"dataset": "simulator"}
    put_monitor(ledger, Monitor(version=1, name="watched", feature_space="simulator", benchmark=dataset))
    judged = GateDecision(
        monitor="watched", champion_version=1, challenger_version=2, passed=False, criteria=(),
        reasons=("too few rows",), evidence_digest="ab" * 32,
    )  # fmt: skip
    put_gate_attempt(ledger, judged, alpha_spent=0.05)
    shown = as_json("history", "watched", home=tmp_path)["gate"]
    assert [(each["champion"], each["challenger"], each["passed"], each["reasons"]) for each in shown] == [
        (1, 2, False, "too few rows")
    ]
    assert "too few rows" in " ".join(revet("history", "watched", home=tmp_path).output.split())


def test_a_freeze_is_shown_until_it_is_lifted(tmp_path):
    assert isinstance(revet("freeze", home=tmp_path).exception, ConfigError)
    (on,) = as_json("freeze", "--reason", "incident 12", home=tmp_path)
    assert (on["scope"], on["reason"]) == ("*", "incident 12")
    assert as_json("status", home=tmp_path)["freezes"][0]["reason"] == "incident 12"
    assert as_json("freeze", "--off", home=tmp_path) == []


def test_a_run_without_a_server_says_how_to_start_one(tmp_path):
    result = revet("reevaluate", "simulator", home=tmp_path)
    assert isinstance(result.exception, ConfigError)
    assert "revet up" in str(result.exception)


def test_init_drafts_files_that_are_not_overwritten(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.lognormal(5, 1, 400), "flag": rng.integers(0, 2, 400)})
    frame["bad"] = np.arange(400) % 2
    frame.to_csv(tmp_path / "My Flows.csv", index=False)
    arguments = ("init", "--data", tmp_path / "My Flows.csv", "--label", "bad")
    made = as_json(*arguments, home=tmp_path / "home")
    assert made["monitor"] == "my-flows"
    monitor = yaml.safe_load((tmp_path / "home/monitors/my-flows.yaml").read_text())
    assert monitor["benchmark"]["dataset"] == str(tmp_path / "My Flows.csv")
    assert (tmp_path / "home/monitors" / monitor["feature_space"]).resolve().is_file()
    again = revet(*arguments, home=tmp_path / "home")
    assert isinstance(again.exception, ConfigError)
    assert "--force" in str(again.exception)


def test_labels_are_imported_all_or_none(tmp_path):
    frame = pd.DataFrame({"sample_id": ["a", "b"], "value": [1, 0], "kind": "alert", "time": "2026-01-01T00:00:00Z"})
    frame.to_csv(tmp_path / "labels.csv", index=False)
    assert as_json("labels", "import", tmp_path / "labels.csv", home=tmp_path)["labels"] == 2
    frame.assign(value=[1, 7]).to_csv(tmp_path / "wrong.csv", index=False)
    result = revet("labels", "import", tmp_path / "wrong.csv", home=tmp_path)
    assert exit_code(result.exception) == 3
    assert "7" in str(result.exception)


def test_the_catalogue_says_what_is_on_this_machine(tmp_path):
    rows = {row["name"]: row for row in as_json("data", "list", home=tmp_path)}
    assert {"nsl-kdd", "phishtank", "url-phishing"} <= set(rows)
    assert not rows["nsl-kdd"]["here"]


def test_a_doctor_finds_a_server_that_does_not_answer(tmp_path):
    healthy = revet("doctor", "--json", home=tmp_path)
    assert healthy.exit_code == 0
    assert {each["subject"] for each in json.loads(healthy.stdout)} >= {"python", "disk", "ledger", "prefect", "worker"}
    sick = runner.invoke(app, ["--prefect-api-url", "http://127.0.0.1:9/api", "--home", str(tmp_path), "doctor"])
    assert sick.exit_code == 4


def test_gc_shows_before_it_deletes(tmp_path):
    assert as_json("gc", home=tmp_path)["dry_run"] is True


def test_down_of_a_workspace_where_nothing_runs_ends_nothing(tmp_path):
    assert as_json("down", home=tmp_path) == {"ended": []}


def test_a_demonstration_finds_the_sets_that_the_workspace_imported(tmp_path, monkeypatch):
    import flows.demo.run

    seen = []
    monkeypatch.setattr(flows.demo.run, "run_demo", lambda **given: seen.append(given["data_dir"]) or 0)
    (tmp_path / ".revet").mkdir()
    assert runner.invoke(app, ["demo", "--data", "nsl-kdd"]).exit_code == 0
    assert runner.invoke(app, ["--data-dir", str(tmp_path / "sets"), "demo", "--data", "nsl-kdd"]).exit_code == 0
    assert runner.invoke(app, ["demo"]).exit_code == 0
    assert seen == [tmp_path / ".revet" / "data", tmp_path / "sets", None]
