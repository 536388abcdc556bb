"""What a person does and sees in the two UIs, in headless Chromium: for the tests and for the README's screenshots."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PATIENCE_MS = 90_000.0
VIEWPORT = {"width": 1440, "height": 900}  # narrower, Prefect folds schedules into a number
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    """Return the path of Debian's Chromium, or None."""
    usual = Path("/usr/bin/chromium")
    return str(usual) if usual.exists() else shutil.which("chromium")


@contextmanager
def browser(executable: str) -> Iterator[Page]:
    """Give a page of a fresh browser that waits patiently."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=executable, args=ARGUMENTS)
        try:
            page = opened.new_context(viewport=VIEWPORT).new_page()  # type: ignore[arg-type]
            page.set_default_timeout(PATIENCE_MS)
            page.set_default_navigation_timeout(PATIENCE_MS)
            yield page
        finally:
            opened.close()


def open_deployments(page: Page, prefect: str) -> Locator:
    """Show all deployments, and return the rows of the table."""
    page.goto(f"{prefect}/deployments")
    rows = page.locator("tbody tr, .p-table-row")
    rows.first.wait_for()
    return rows


def open_form(page: Page, prefect: str, deployment: str) -> None:
    """Go to a deployment's page and choose a custom run there."""
    page.goto(f"{prefect}/deployments/deployment/{deployment}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    field(page, "Run Name").locator("input").wait_for()


def field(page: Page, name: str) -> Locator:
    """Return the part of the form that bears the title `name`."""
    title = page.locator("label.p-label__label", has_text=re.compile(rf"^{re.escape(name)}( \(Optional\))?$"))
    return page.locator(".p-label", has=title)


def fill_form(page: Page, changes: Mapping[str, str | bool]) -> None:
    """Change fields: text and numbers are typed, toggles are switched to the value."""
    for name, value in changes.items():
        part = field(page, name)
        if isinstance(value, bool):
            toggle = part.locator("input[type=checkbox]")
            if toggle.is_checked() != value:
                part.locator(".p-toggle__control").click()
        else:
            part.locator("textarea, input").first.fill(value)


def submit_form(page: Page) -> str:
    """Submit, and return the id of the flow run that Prefect made."""
    with page.expect_response(re.compile("/create_flow_run$")) as made:
        page.get_by_role("button", name="Submit", exact=True).click()
    return str(made.value.json()["id"])


def open_artifacts(page: Page, prefect: str, run: str) -> None:
    """Show the tab with the artifacts of a flow run."""
    page.goto(f"{prefect}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).last.click()


def open_artifact(page: Page, prefect: str, artifact: str) -> None:
    """Show one artifact."""
    page.goto(f"{prefect}/artifacts/artifact/{artifact}")


def rendered_markdown(page: Page) -> Locator:
    """Return the Markdown of the artifact that is shown."""
    rendered = page.locator(".artifact-data-markdown").first
    rendered.wait_for()
    return rendered


def open_mlflow(page: Page, address: str) -> None:
    """Show a page of MLflow without the assistant that covers a quarter of it at the first visit."""
    page.goto(address)
    page.get_by_role("button", name="Close", exact=True).click()


def comparison(mlflow: str, experiment: str, runs: Sequence[str]) -> str:
    """Return the address of the page that compares runs."""
    both = [quote(json.dumps(each)) for each in (list(runs), [experiment])]
    return f"{mlflow}/#/compare-runs?runs={both[0]}&experiments={both[1]}"


def parameter(page: Page, name: str) -> list[str]:
    """Return the values of a parameter in a comparison, one for each run."""
    row = page.locator("tr", has=page.get_by_text(name, exact=True)).first
    row.wait_for()
    return [text.strip() for text in row.locator("td").all_inner_texts()][-2:]


def metric(page: Page, name: str, runs: int = 2) -> list[str]:
    """Return the values of a metric in a comparison; names and values are two grids, of which only a part is drawn."""
    page.get_by_role("link", name=name, exact=True).wait_for()
    inside = ".ReactVirtualized__Grid__innerScrollContainer"
    names, values = (page.locator(inside).nth(number).locator("> *").all_inner_texts() for number in (0, 1))
    place = names.index(name) * runs
    return [text.strip() for text in values[place : place + runs]]


def choose_figure(page: Page, name: str) -> Locator:
    """Choose an artifact that both runs of a comparison have, and return its pictures."""
    page.get_by_text(name, exact=True).first.click()
    return page.locator("img[src^='blob:']:visible")


def figure_width(page: Page) -> int:
    """Return the width in pixels of the picture that is shown, 0 if it is broken."""
    picture = page.locator("img[src^='blob:']:visible").first
    picture.wait_for()
    return int(picture.evaluate("image => image.naturalWidth"))
