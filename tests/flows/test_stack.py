"""`revet up` as a person runs it: a child process that gets signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from domain.settings import running_services
from flows.local.environment import scrubbed
from flows.local.probes import answers
from flows.local.processes import birth_mark, marked, read_note
from flows.local.stack import SERVICES
from flows.local.work_pools import online_workers

pytestmark = pytest.mark.slow


def wait_for(condition, seconds, log):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError(log.read_text())


def processes_of(home):
    return [pid for name in SERVICES for pid in marked(f"{(home / 'run').resolve()}/{name}")]


def test_up_replaces_a_killed_worker_and_leaves_nothing_behind(tmp_path):
    home, log = tmp_path / "home", tmp_path / "up.log"
    environ = {**scrubbed(os.environ), "PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml")}
    program = "from flows.cli.main import main; main()"
    with log.open("w") as output:
        command = [sys.executable, "-c", program, "--home", str(home), "up"]
        up = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ, cwd=tmp_path)
    try:
        wait_for(lambda: "Ctrl-C" in log.read_text(), 240, log)
        urls = running_services(home)
        assert answers(f"{urls['prefect_api_url']}/health")
        assert answers(f"{urls['mlflow_tracking_uri']}/health")
        (first,) = online_workers(urls["prefect_api_url"], "revet")
        os.kill(read_note(home / "run" / "prefect-worker.pid.json").pid, signal.SIGKILL)
        wait_for(lambda: set(online_workers(urls["prefect_api_url"], "revet")) - {first}, 120, log)
        alive = processes_of(home)
        assert len(alive) >= 3
        up.send_signal(signal.SIGTERM)
        assert up.wait(120) == 128 + signal.SIGTERM
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()
    assert not any(birth_mark(pid) for pid in alive)
    assert processes_of(home) == []
    assert list((home / "run").iterdir()) == []
    assert "Traceback" not in log.read_text()


def test_deployments_that_the_server_lists_can_all_be_imported():
    from flows.deployments import MONITOR_FLOWS, RECONCILE, import_flow

    names = [import_flow(entrypoint).name for entrypoint in (*MONITOR_FLOWS, RECONCILE)]
    assert names == ["bootstrap", "reevaluate", "harden", "promote", "rollback", "reconcile"]


def test_the_exported_file_can_be_read_by_prefect(tmp_path, prefect_url):
    from domain.settings import load_settings
    from flows.deployments import Target, export_yaml
    from flows.local.work_pools import ensure_work_pool
    from tests.flows.small_flows import small

    settings = load_settings(home=tmp_path / "home", prefect_api_url=prefect_url, work_pool="exported")
    ensure_work_pool(prefect_url, "exported")
    path = tmp_path / "prefect.yaml"
    path.write_text(export_yaml(settings, targets=[Target(small, "exported", {"monitor": "exported"})]))
    environ = {**scrubbed(os.environ), "PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path / "prefect")}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    import httpx

    found = httpx.get(f"{prefect_url}/deployments/name/small/exported", trust_env=False).json()
    assert found["entrypoint"] == "tests.flows.small_flows.small", json.dumps(found)
    assert found["work_pool_name"] == "exported"
