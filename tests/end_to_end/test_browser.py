"""What a person sees and does in the two UIs, in a real browser against real servers."""

from __future__ import annotations

import pytest

from tests.end_to_end import pages
from tests.end_to_end.town import MARKS, MONITOR

EXECUTABLE = pages.chromium()
pytestmark = [
    *MARKS,
    pytest.mark.skipif(EXECUTABLE is None, reason="Chromium is not installed (Debian: chromium)"),
]


@pytest.fixture
def page(town):
    with pages.browser(EXECUTABLE) as opened:
        yield opened


def deployment(town, flow):
    return town.call("GET", f"/deployments/name/{flow}/{MONITOR}")


def artifact(town, run, kind):
    body = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": [f"{kind}-{MONITOR}"]}}}
    (found,) = town.call("POST", "/artifacts/filter", body)
    return found


def headline(verdict):
    return verdict["data"].splitlines()[0].removeprefix("# ")


def test_the_deployments_page_shows_every_flow_and_the_schedules(town, page):
    from playwright.sync_api import expect

    rows = pages.open_deployments(page, town.prefect)
    for flow, schedule in (("reevaluate", "At 03:00 AM"), ("harden", ""), ("promote", ""), ("rollback", "")):
        row = rows.filter(has_text=flow).filter(has_text=MONITOR)
        expect(row).to_have_count(1)
        expect(row).to_contain_text(schedule)
    expect(rows.filter(has_text="reconcile")).to_contain_text("Every 15 minutes")


def test_a_custom_run_from_the_form_keeps_what_was_not_changed_and_renders_its_verdict(town, page):
    from playwright.sync_api import expect

    before = deployment(town, "reevaluate")
    start = "2026-03-02T00:00:00+00:00"
    changes = {"window_start": start, "reason": "looked at by hand", "dry_run": True}
    pages.open_form(page, town.prefect, before["id"])
    expect(pages.field(page, "monitor").locator("textarea")).to_have_value(MONITOR)
    pages.fill_form(page, changes)
    run = pages.submit_form(page)
    assert town.finish(run).state == "COMPLETED", town.log_of(run)
    used = town.call("GET", f"/flow_runs/{run}")["parameters"]
    assert used.pop("as_of", "now") == "now"
    assert used == {**before["parameters"], **changes}
    after = deployment(town, "reevaluate")
    for kept in ("parameters", "schedules", "paused"):
        assert after[kept] == before[kept], kept
    verdict = artifact(town, run, "verdict")
    assert verdict["data"].startswith("# ")
    pages.open_artifacts(page, town.prefect, run)
    page.get_by_text(f"verdict-{MONITOR}").last.click()
    rendered = pages.rendered_markdown(page)
    expect(rendered.get_by_role("heading", level=1)).to_have_text(headline(verdict))
    expect(rendered.locator("table")).to_contain_text("production/detection_rate")
    expect(rendered).not_to_contain_text("| ---")


def test_the_verdict_leads_to_the_run_in_mlflow(town, page):
    from playwright.sync_api import expect

    verdict = artifact(town, town.first_day, "verdict")
    pages.open_artifact(page, town.prefect, verdict["id"])
    link = pages.rendered_markdown(page).get_by_role("link", name="MLflow run")
    pages.open_mlflow(page, str(link.get_attribute("href")))
    expect(page.get_by_text("reevaluate-2026-03-02-0000-r1").first).to_be_visible()
    expect(page.get_by_text(headline(verdict)).first).to_be_visible()
    expect(page.get_by_role("link", name="Model registry")).to_be_visible()  # among the pages for trained models


def parents(town):
    """Return the ids of the MLflow runs of the bootstrap and of the first day, and of their experiment."""
    client = town.loop.tracker.client
    experiment = client.get_experiment_by_name(f"revet/{MONITOR}").experiment_id
    found = []
    for run, kind in ((town.bootstrap, "bootstrap"), (town.first_day, "reevaluate")):
        wanted = f"tags.`prefect.flow_run_id` = '{run}' and tags.`revet.kind` = '{kind}'"
        (one,) = client.search_runs([experiment], wanted)
        found.append(one)
    return experiment, found


def test_two_runs_stand_side_by_side_with_parameters_metrics_and_a_figure(town, page):
    from playwright.sync_api import expect

    experiment, runs = parents(town)
    pages.open_mlflow(page, pages.comparison(town.mlflow, experiment, [one.info.run_id for one in runs]))
    assert pages.parameter(page, "epsilon") == ["0.1", "0.1"]
    assert pages.parameter(page, "suite") == ["quick", "quick"]
    expect(page.get_by_text(runs[0].info.run_name).first).to_be_visible()
    expect(page.get_by_text(runs[1].info.run_name).first).to_be_visible()
    name = "clean/detection_rate"
    shown = pages.metric(page, name)
    assert shown == [str(round(one.data.metrics[name], 3)) for one in runs]
    figures = pages.choose_figure(page, "robust-curve.png")
    expect(figures).to_have_count(2)


def test_a_figure_of_a_run_is_shown(town, page):
    experiment, runs = parents(town)
    address = f"{town.mlflow}/#/experiments/{experiment}/runs/{runs[0].info.run_id}/artifacts/robust-curve.png"
    pages.open_mlflow(page, address)
    assert pages.figure_width(page) > 300


def test_the_models_page_shows_who_is_champion(town, page):
    from playwright.sync_api import expect

    pages.open_mlflow(page, f"{town.mlflow}/#/models/revet-{MONITOR}")
    row = page.get_by_role("row").filter(has_text="Version 1")
    expect(row).to_contain_text("@ champion")
    expect(row).to_contain_text("The first champion.")
