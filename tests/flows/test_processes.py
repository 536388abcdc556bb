import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from domain.errors import ServiceUnavailable
from flows.local.ports import free_port, is_listening
from flows.local.processes import Processes, birth_mark, end_marked, marked

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
print('ready', flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path / "run", tmp_path / "logs")
    yield made
    made.stop()


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("the condition did not come true in time")


def test_a_stopped_child_is_gone_with_its_pid_file(processes, tmp_path):
    child = processes.start("one", SLEEP, os.environ)
    assert marked(processes.mark("one")) == [child.pid]
    assert json.loads((tmp_path / "run" / "one.pid.json").read_text())["pid"] == child.pid
    processes.stop()
    assert not birth_mark(child.pid)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_child_that_ignores_sigterm_is_killed_with_its_own_children(processes):
    child = processes.start("stubborn", [sys.executable, "-c", STUBBORN], os.environ)
    processes.wait(child, lambda: "ready" in child.last_lines(), 20)
    both = marked(processes.mark("stubborn"))
    assert len(both) == 2
    end_marked(processes.mark("stubborn"), child.process.poll, grace=0.5)
    assert not any(birth_mark(pid) for pid in both)


def test_a_child_that_ends_early_is_reported_with_the_end_of_its_log(processes):
    child = processes.start("broken", [sys.executable, "-c", "raise SystemExit('no such database')"], os.environ)
    with pytest.raises(ServiceUnavailable, match=r"(?s)broken ended with code 1.*no such database"):
        processes.wait(child, lambda: False, 20)


def test_a_child_that_never_answers_is_given_up(processes):
    child = processes.start("silent", SLEEP, os.environ)
    with pytest.raises(ServiceUnavailable, match="silent did not answer within 0 s"):
        processes.wait(child, lambda: False, 0.2)


def test_what_a_killed_start_left_behind_is_ended_by_the_next(tmp_path):
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from flows.local.processes import Processes
        made = Processes(Path({str(tmp_path / "run")!r}), Path({str(tmp_path / "logs")!r}))
        print(made.start("one", {SLEEP!r}, os.environ).pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    orphan = int(done.stdout)
    assert birth_mark(orphan)
    assert Processes(tmp_path / "run", tmp_path / "logs").end_leftover("one")
    assert not birth_mark(orphan)


def test_a_pid_that_belongs_to_another_process_now_is_left_alone(processes, tmp_path):
    bystander = processes.start("bystander", SLEEP, os.environ)
    note = {"pid": bystander.pid, "owner": 1, "owner_birth": ""}
    (tmp_path / "run" / "old.pid.json").write_text(json.dumps(note))
    assert not processes.end_leftover("old")
    assert birth_mark(bystander.pid)


def test_a_second_start_beside_a_living_one_is_refused(processes, tmp_path):
    program = textwrap.dedent(f"""
        import os, time
        from pathlib import Path
        from flows.local.processes import Processes
        made = Processes(Path({str(tmp_path / "run")!r}), Path({str(tmp_path / "logs")!r}))
        try:
            made.start("one", {SLEEP!r}, os.environ)
            print("up", flush=True)
            input()
        finally:
            made.stop()
    """)
    owner = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        owner.stdout.readline()
        with pytest.raises(ServiceUnavailable, match="already runs in this workspace"):
            processes.start("one", SLEEP, os.environ)
    finally:
        owner.communicate(b"\n", timeout=60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + 15), (signal.SIGINT, 1)])
def test_nothing_is_left_behind_after_a_signal(tmp_path, number, code):
    program = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from flows.local.processes import Processes, ending_on_signals
        made = Processes(Path({str(tmp_path / "run")!r}), Path({str(tmp_path / "logs")!r}))
        try:
            with ending_on_signals(made.stop):
                print(made.start("one", {SLEEP!r}, os.environ).pid, flush=True)
                time.sleep(600)
        except KeyboardInterrupt:
            sys.exit(1)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    wait_for(lambda: birth_mark(child))
    parent.send_signal(number)
    assert parent.wait(60) == code
    parent.stdout.close()
    assert not birth_mark(child)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_taken_port_is_not_handed_out():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert is_listening(port)
        assert free_port(port) != port
