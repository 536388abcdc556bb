"""Take the README's screenshots from a workspace that `revet demo --keep` left up.

python docs/take_screenshots.py HOME [--to docs/images]
"""

# ruff: noqa: INP001, T201 - a script of the documentation, not a package

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from domain.settings import load_settings  # noqa: E402 - the repository's root comes first
from flows.local.prefect_api import call  # noqa: E402
from flows.wiring import Loop  # noqa: E402
from tests.end_to_end import pages  # noqa: E402

MOST_BYTES = 300_000


class Camera:
    """Takes pictures of one workspace; the order of its methods is the order of the README."""

    def __init__(self, page: Any, home: Path, target: Path) -> None:
        settings = load_settings(home=home)
        if not settings.prefect_api_url:
            raise SystemExit(f"{home} has no servers up; make one with `revet --home {home} demo --keep`")
        self.page, self.target, self.loop = page, target, Loop(settings)
        self.api, self.mlflow = settings.prefect_api_url, settings.mlflow_tracking_uri
        self.prefect = self.api.removesuffix("/api")
        self.monitor = min(settings.monitors_dir.glob("*.yaml")).stem

    def deployments(self) -> None:
        """Picture of all deployments with their schedules."""
        pages.open_deployments(self.page, self.prefect).filter(has_text="rollback").wait_for()
        self._take("prefect-deployments")

    def form(self) -> None:
        """Picture of the form of a custom run, two fields changed."""
        deployment = self._ask("GET", f"/deployments/name/reevaluate/{self.monitor}")
        pages.open_form(self.page, self.prefect, deployment["id"])
        changes: dict[str, str | bool] = {"as_of": "2026-03-05T00:00:00+00:00", "reason": "analyst's question"}
        pages.fill_form(self.page, {**changes, "dry_run": True})
        pages.field(self.page, "monitor").evaluate("field => field.scrollIntoView()")
        self._take("prefect-form")

    def verdict(self) -> None:
        """Picture of a verdict as Prefect shows it: the first one that is degraded."""
        keys = {"artifacts": {"key": {"any_": [f"verdict-{self.monitor}"]}}}
        found = self._ask("POST", "/artifacts/filter", keys)
        bad = [one for one in found if "degraded" in one["description"]]
        pages.open_artifact(self.page, self.prefect, (bad or found)[-1]["id"])
        pages.rendered_markdown(self.page)
        self._take("prefect-verdict")

    def model_training(self) -> None:
        """Choose MLflow's pages for trained models, as a person does once; its start is those for language models."""
        pages.open_mlflow(self.page, self.mlflow)
        self.page.get_by_text("Model training", exact=True).first.click()

    def comparison(self) -> None:
        """Picture of champion and challenger side by side, in the newest hardening that measured both."""
        client = self.loop.tracker.client
        experiment = client.get_experiment_by_name(f"revet/{self.monitor}").experiment_id
        pair = [self._newest(experiment, role) for role in ("champion", "challenger")]
        self.page.goto(pages.comparison(self.mlflow, experiment, pair))
        self.page.get_by_text("Visualizations", exact=True).click()
        self.page.get_by_text("Tags", exact=True).click()
        pages.choose_figure(self.page, "robust-curve.png").nth(1).wait_for()
        self.page.get_by_text("Parameters", exact=True).evaluate("title => title.scrollIntoView()")
        self._take("mlflow-compare", height=1250)

    def champion(self) -> None:
        """Picture of the registered model with its aliases."""
        self.page.goto(f"{self.mlflow}/#/models/revet-{self.monitor}")
        self.page.get_by_text("@ champion").first.wait_for()
        self.page.get_by_text("Tags", exact=True).first.click()
        self._take("mlflow-champion")

    def _newest(self, experiment: str, role: str) -> str:
        found = self.loop.tracker.client.search_runs([experiment], f"tags.`revet.role` = '{role}'", max_results=1)
        return str(found[0].info.run_id)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return call(method, self.api, path, body)[1]

    def _take(self, name: str, height: int = 900) -> None:
        path = self.target / f"{name}.png"
        self.page.set_viewport_size({"width": pages.VIEWPORT["width"], "height": height})
        self.page.evaluate("() => document.fonts.ready.then(() => new Promise(done => setTimeout(done, 1500)))")
        self.page.screenshot(path=path, animations="disabled")
        self.page.set_viewport_size(pages.VIEWPORT)
        size = path.stat().st_size
        print(f"{path}  {size // 1000} kB" + ("  too large" if size > MOST_BYTES else ""))


def main() -> None:
    """Take all pictures and say where they lie."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path, help="workspace that `revet demo --keep` left up")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    chosen = parser.parse_args()
    executable = pages.chromium()
    if executable is None:
        raise SystemExit("Chromium is not installed (Debian: chromium)")
    chosen.to.mkdir(parents=True, exist_ok=True)
    with pages.browser(executable) as page:
        camera = Camera(page, chosen.home.resolve(), chosen.to)
        for take in (camera.deployments, camera.form, camera.verdict):
            take()
        camera.model_training()
        camera.comparison()
        camera.champion()


if __name__ == "__main__":
    main()
