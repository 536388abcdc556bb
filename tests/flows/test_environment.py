from domain.settings import load_settings
from flows.local.environment import child_environment, scrubbed, settings_environment

AMBIENT = {
    "PATH": "/bin",
    "PREFECT_API_URL": "https://cloud",
    "PREFECT_PROFILE": "work",
    "MLFLOW_TRACKING_URI": "https://runs",
    "REVET_HOME": "/other",
    "REVET_DATA_DIR": "/sets",
}


def test_an_isolated_child_sees_no_ambient_settings(tmp_path):
    settings = load_settings(home=tmp_path, prefect_api_url="", mlflow_tracking_uri="")
    environ = child_environment(settings, AMBIENT, isolated=True)
    assert "PREFECT_PROFILE" not in environ
    assert "PREFECT_API_URL" not in environ
    assert "MLFLOW_TRACKING_URI" not in environ
    assert environ["REVET_HOME"] == str(tmp_path)
    assert environ["PREFECT_HOME"] == str(tmp_path / "prefect")


def test_a_child_of_up_keeps_ambient_settings(tmp_path):
    settings = load_settings(home=tmp_path, prefect_api_url="http://a/api", mlflow_tracking_uri="")
    environ = child_environment(settings, AMBIENT, isolated=False)
    assert environ["PREFECT_PROFILE"] == "work"
    assert environ["PREFECT_API_URL"] == "http://a/api"


def test_telemetry_and_pickle_are_off_in_every_child(tmp_path):
    environ = child_environment(load_settings(home=tmp_path), {}, isolated=False)
    assert environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environ["DO_NOT_TRACK"] == environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environ["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"


def test_the_given_environment_is_not_changed(tmp_path):
    before = dict(AMBIENT)
    child_environment(load_settings(home=tmp_path), AMBIENT, isolated=True)
    assert before == AMBIENT
    assert scrubbed(AMBIENT) == {"PATH": "/bin", "REVET_DATA_DIR": "/sets"}


def test_credentials_stay_out_of_what_is_handed_to_the_server(tmp_path):
    settings = load_settings(home=tmp_path, ledger_url="postgresql+psycopg://u:secret@db/x")
    handed = settings_environment(settings)
    assert "REVET_LEDGER_URL" not in handed
    assert handed["REVET_HOME"] == str(tmp_path)
    assert not any("secret" in value for value in handed.values())
