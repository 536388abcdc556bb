"""What people change on the server survives a second deploy, and a kill -9 of the worker."""

import os
import signal
import time
import uuid

import httpx
import pytest
import yaml

from domain.errors import ConfigError, ServiceUnavailable
from domain.monitor import ScheduleSettings
from domain.settings import load_settings
from flows.deployments import Target, deploy, export_yaml
from flows.local.environment import child_environment, scrubbed
from flows.local.processes import Processes, birth_mark, marked
from flows.local.worker import start_worker

pytestmark = pytest.mark.slow

HOURLY = ScheduleSettings(cron="7 * * * *", timezone="Europe/Berlin")
DAILY = ScheduleSettings(cron="0 3 * * *", timezone="UTC")


class Server:
    """The server's API, used as the UI uses it."""

    def __init__(self, url):
        self.url = url

    def call(self, method, path, body=None):
        for _ in range(20):
            reply = httpx.request(method, f"{self.url}{path}", json=body, timeout=30, trust_env=False)
            if reply.status_code != 503:  # its SQLite database is busy; Prefect's own clients try again too
                break
            time.sleep(0.5)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def read(self, name):
        return self.call("GET", f"/deployments/name/{name}")

    def run_to_end(self, deployment, seconds=180, **parameters):
        run = self.call("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})
        return self.wait(run["id"], lambda state: state in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}, seconds)

    def wait(self, run, good, seconds=180):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.call("GET", f"/flow_runs/{run}")
            if good(found["state_type"]):
                return found
            time.sleep(0.5)
        raise AssertionError(f"flow run {run} is still {found['state']}")


@pytest.fixture
def server(prefect_url):
    return Server(prefect_url)


@pytest.fixture
def settings(prefect_url, tmp_path):
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    return load_settings(home=tmp_path / "home", prefect_api_url=prefect_url, mlflow_tracking_uri="", work_pool=pool)


@pytest.fixture
def target():
    from tests.flows.small_flows import small

    name = f"m-{uuid.uuid4().hex[:8]}"
    return Target(small, name, {"monitor": name, "seed": 3}, (HOURLY, DAILY))


def schedules_of(found):
    return sorted((one["schedule"]["cron"], one["schedule"]["timezone"], one["active"]) for one in found["schedules"])


def test_a_first_deploy_makes_pool_deployment_schedules_and_tags(settings, server, target):
    (done,) = deploy(settings, targets=[target])
    assert done.outcome == "created"
    assert done.name == f"small/{target.monitor}"
    found = server.read(done.name)
    assert found["entrypoint"] == "tests.flows.small_flows.small"
    assert schedules_of(found) == [("0 3 * * *", "UTC", True), ("7 * * * *", "Europe/Berlin", True)]
    assert found["parameters"] == {"monitor": target.monitor, "seed": 3}
    assert set(found["tags"]) == {f"monitor:{target.monitor}", "kind:small"}
    assert found["work_pool_name"] == settings.work_pool
    assert found["job_variables"]["env"]["REVET_HOME"] == str(settings.home)
    form = found["parameter_openapi_schema"]["properties"]
    assert form["note"]["default"] == "default"
    assert form["monitor"]["description"] == "name of the monitor."


def test_a_second_deploy_of_the_same_changes_nothing(settings, server, target):
    deploy(settings, targets=[target])
    before = server.read(f"small/{target.monitor}")
    (done,) = deploy(settings, targets=[target])
    assert done.outcome == "unchanged"
    assert server.read(f"small/{target.monitor}") == before


def edit(server, found):
    one = next(each for each in found["schedules"] if each["schedule"]["cron"] == DAILY.cron)
    body = {"schedule": {"cron": "30 4 * * *", "timezone": "Asia/Tokyo"}}
    server.call("PATCH", f"/deployments/{found['id']}/schedules/{one['id']}", body)


def add(server, found):
    body = [{"schedule": {"cron": "5 5 * * *", "timezone": "UTC"}, "active": True}]
    server.call("POST", f"/deployments/{found['id']}/schedules", body)


def switch_off(server, found):
    path = f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}"
    server.call("PATCH", path, {"active": False})


def delete(server, found):
    server.call("DELETE", f"/deployments/{found['id']}/schedules/{found['schedules'][0]['id']}")


def delete_all(server, found):
    for one in found["schedules"]:
        server.call("DELETE", f"/deployments/{found['id']}/schedules/{one['id']}")


def pause(server, found):
    server.call("POST", f"/deployments/{found['id']}/pause_deployment")


def change_parameters(server, found):
    body = {"parameters": {**found["parameters"], "seed": 9, "note": "mine"}}
    server.call("PATCH", f"/deployments/{found['id']}", body)


@pytest.mark.parametrize("change", [edit, add, switch_off, delete, delete_all, pause, change_parameters])
def test_what_was_changed_in_the_ui_survives_a_deploy_that_changes_the_code(settings, server, target, change):
    name = f"small/{target.monitor}"
    deploy(settings, targets=[target])
    change(server, server.read(name))
    before = server.read(name)
    moved = load_settings(
        home=settings.home, prefect_api_url=server.url, work_pool=settings.work_pool, data_dir=settings.home / "moved"
    )
    (done,) = deploy(moved, targets=[target])
    after = server.read(name)
    assert done.outcome == "updated"
    assert after["job_variables"]["env"]["REVET_DATA_DIR"].endswith("/moved")
    for key in ("paused", "parameters", "schedules"):
        assert after[key] == before[key]


def test_only_a_reset_puts_the_files_schedules_back(settings, server, target):
    name = f"small/{target.monitor}"
    deploy(settings, targets=[target])
    for change in (delete_all, pause, change_parameters):
        change(server, server.read(name))
    (done,) = deploy(settings, targets=[target], reset_schedules=True)
    after = server.read(name)
    assert done.outcome == "reset"
    assert schedules_of(after) == [("0 3 * * *", "UTC", True), ("7 * * * *", "Europe/Berlin", True)]
    assert after["parameters"] == target.parameters
    assert not after["paused"]


def test_a_tag_that_somebody_added_is_kept(settings, server, target):
    name = f"small/{target.monitor}"
    deploy(settings, targets=[target])
    found = server.read(name)
    server.call("PATCH", f"/deployments/{found['id']}", {"tags": [*found["tags"], "night"]})
    deploy(settings, targets=[target])
    assert "night" in server.read(name)["tags"]


def test_credentials_never_reach_the_server(settings, server, target):
    secret = load_settings(
        home=settings.home,
        prefect_api_url=server.url,
        work_pool=settings.work_pool,
        ledger_url="postgresql+psycopg://u:hunter2@db/revet",
    )
    deploy(secret, targets=[target])
    assert "hunter2" not in httpx.get(f"{server.url}/deployments/name/small/{target.monitor}", trust_env=False).text


def test_the_exported_file_holds_the_same_deployments(settings, target):
    content = yaml.safe_load(export_yaml(settings, targets=[target]))
    (one,) = content["deployments"]
    assert one["name"] == target.monitor
    assert one["entrypoint"] == "tests.flows.small_flows.small"
    assert [each["timezone"] for each in one["schedules"]] == ["Europe/Berlin", "UTC"]
    assert one["work_pool"]["name"] == settings.work_pool


def test_a_server_that_does_not_answer_is_an_error_with_a_remedy(settings, target):
    gone = load_settings(home=settings.home, prefect_api_url="http://127.0.0.1:9/api")
    with pytest.raises(ServiceUnavailable, match="revet up"):
        deploy(gone, targets=[target])
    nowhere = load_settings(home=settings.home, prefect_api_url="")
    with pytest.raises(ConfigError, match="REVET_PREFECT_API_URL"):
        deploy(nowhere, targets=[target])


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path / "run", tmp_path / "logs")
    yield made
    made.stop()


@pytest.fixture
def worker_environ(settings, tmp_path):
    base = {**scrubbed(os.environ), "PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml")}
    return child_environment(settings, base, isolated=True)


def test_the_worker_runs_flows_and_its_death_changes_no_schedule(
    settings, server, target, processes, worker_environ, tmp_path
):
    from tests.flows.small_flows import slow

    deploy(settings, targets=[target, Target(slow, target.monitor, {"monitor": target.monitor})])
    switch_off(server, server.read(f"small/{target.monitor}"))
    found = server.read(f"small/{target.monitor}")
    first = start_worker(processes, worker_environ, settings.work_pool, tmp_path / "work")

    run = server.run_to_end(found["id"], monitor=target.monitor, note="by hand")
    assert run["state_type"] == "COMPLETED", (run["state"], first.last_lines())
    assert run["parameters"] == {"monitor": target.monitor, "seed": 3, "note": "by hand"}
    notes = server.call("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    assert notes[0]["data"] == f"{target.monitor} 3 by hand home={settings.home}"

    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    deploy(settings, targets=[target])
    assert server.read(f"small/{target.monitor}")["schedules"] == found["schedules"]

    second = start_worker(processes, worker_environ, settings.work_pool, tmp_path / "work")
    assert not birth_mark(first.pid)
    path = f"/deployments/{server.read(f'slow/{target.monitor}')['id']}/create_flow_run"
    running = server.call("POST", path, {})["id"]
    server.wait(running, lambda state: state == "RUNNING")
    alive = marked(processes.mark(second.name))
    assert second.pid in alive
    assert len(alive) >= 2
    processes.stop()
    assert not any(birth_mark(pid) for pid in alive)
    assert server.read(f"small/{target.monitor}")["schedules"] == found["schedules"]
