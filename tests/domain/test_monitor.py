import pytest

from domain.errors import ConfigError
from domain.monitor import load_monitor, parse_monitor

MONITOR = """
version: 1
name: edge-flows
feature_space: nsl-kdd
benchmark: {dataset: nsl-kdd}
schedules: [{cron: "0 3 * * *", timezone: Europe/Berlin}]
alerts: {urls: ["${REVET_ALERT_URL}"]}
"""


def test_a_short_monitor_gets_defaults():
    monitor = parse_monitor(MONITOR, "m.yaml")
    assert monitor.false_positive_budget == 0.01
    assert monitor.threat.level == "expected"


def test_the_digest_names_the_content_and_not_the_layout():
    respaced = MONITOR.replace("benchmark: {dataset: nsl-kdd}", "benchmark:\n  dataset: nsl-kdd\n")
    assert parse_monitor(respaced, "m.yaml").digest == parse_monitor(MONITOR, "m.yaml").digest
    assert parse_monitor(MONITOR + "seed: 1\n", "m.yaml").digest != parse_monitor(MONITOR, "m.yaml").digest


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ("false_positive_budget: 2", "false_positive_budget"),
        ("polcy: {}", "polcy"),
        ("policy: {bad_windows: 4, of_windows: 3}", "may not exceed"),
        ("threat: {norm: l1}", "threat.norm"),
        ("threat: {epsilon: 0}", "threat.epsilon"),
        ("source: {kind: parquet}", "needs `path`"),
        ("hardening: {epochs: 0}", "hardening.epochs"),
        ("gate: {approval: maybe}", "gate.approval"),
    ],
)
def test_a_wrong_setting_is_refused_with_file_key_and_rule(extra, fault):
    with pytest.raises(ConfigError, match=fault) as caught:
        parse_monitor(MONITOR + extra + "\n", "m.yaml")
    assert str(caught.value).startswith("m.yaml: ")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("Europe/Berlin", "Berlin", "IANA time zone"),
        (", timezone: Europe/Berlin", "", "timezone"),
        ("0 3 * * *", "0 3 * *", "five fields"),
        ("${REVET_ALERT_URL}", "mailto://user:secret@host", "hold secrets"),
        ("name: edge-flows", "name: Edge_Flows", "name"),
    ],
)
def test_schedule_alert_and_name_rules_are_enforced(old, new, fault):
    with pytest.raises(ConfigError, match=fault):
        parse_monitor(MONITOR.replace(old, new), "m.yaml")


def test_all_faults_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        parse_monitor(MONITOR + "seed: -1\nprevalence: 7\n", "m.yaml")
    assert "seed" in str(caught.value)
    assert "prevalence" in str(caught.value)


@pytest.mark.parametrize("text", ["", "just words", "- 1", "a: ["])
def test_text_that_is_no_monitor_is_refused(text):
    with pytest.raises(ConfigError, match=r"m\.yaml"):
        parse_monitor(text, "m.yaml")


def test_a_missing_or_undecodable_file_is_a_config_error_with_its_path(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.yaml cannot be read"):
        load_monitor(tmp_path / "gone.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match=r"binary\.yaml cannot be read"):
        load_monitor(tmp_path / "binary.yaml")
