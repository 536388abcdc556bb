"""What the documentation says exists: pages, links, commands, options, snippets."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer

from domain.features import parse_feature_space
from domain.monitor import parse_monitor
from domain.settings import Settings
from flows.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ROOMS = ("domain", "evaluation", "training", "registry", "samples", "flows")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHER_VARIABLES = {"REVET_FAILPOINT", "REVET_THREADS", "REVET_ALERT_URL"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=named)


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in FENCE.findall(page.read_text()) if language in languages]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> list[list[str]]:
    """Return the words of every call of `revet` in code blocks and inline code, without `revet` itself."""
    lines = [line for text in blocks(page, "bash", "") for line in text.replace("\\\n", " ").splitlines()]
    inline = re.findall(r"`([^`\n]+)`", prose(page))
    found = []
    for line in [*lines, *inline]:
        parts = [part for part in re.split(r"&&|\|\||[;|]", line) if re.match(r"\s*(\S*/)?revet\s", part)]
        found += [shlex.split(part, comments=True)[1:] for part in parts]
    return found


def fault(words: list[str]) -> str:
    """Return what is wrong with a call of `revet`, or an empty string."""
    command = typer.main.get_command(app)
    values, given = list(words), 0
    while values:
        word = values.pop(0)
        options = {name: each for each in command.params for name in [*each.opts, *each.secondary_opts]}
        if word.startswith("-") and word != "--help":
            name = word.split("=")[0]
            if name not in options:
                return f"{command.name} has no option {name}"
            if "=" not in word and not getattr(options[name], "is_flag", False):
                values = values[1:]
        elif getattr(command, "commands", None) and word not in {"...", "--help"}:
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
        else:
            given += 1
    accepted = [each.nargs for each in command.params if each.param_type_name == "argument"]
    if given > sum(accepted) and -1 not in accepted and "--help" not in words and "..." not in words:
        return f"{command.name} takes {sum(accepted)} arguments, {given} are given"
    return ""


def test_the_reference_of_the_monitor_file_is_what_the_code_says():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(), "run `python docs/make_reference.py` and commit the page"


@pages
def test_every_relative_link_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pages
def test_every_command_exists_with_its_options(page):
    assert {" ".join(words): fault(words) for words in commands(page) if fault(words)} == {}


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("reevaluate mine --dry-run", ""),
        ("--home x data list", ""),
        ("data list --json", ""),
        ("retrain mine", "revet has no command retrain"),
        ("init mine --data x", "init takes 0 arguments, 1 are given"),
        ("data drop", "data has no command drop"),
        ("up --fast", "up has no option --fast"),
    ],
)
def test_a_wrong_command_would_be_found(call, found):
    assert fault(call.split()) == found


@pages
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(blocks(page, "bash")) + "\n" + "\n".join(re.findall(r"`(make [^`\n]+)`", prose(page)))
    assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= targets


@pages
def test_python_snippets_compile_and_import_what_exists(page):
    missing = []
    for text in blocks(page, "python"):
        compile(text, named(page), "exec")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in ROOMS:
                file = ROOT / (str(node.module).replace(".", "/") + ".py")
                assert file.is_file(), node.module
                known = ast.parse(file.read_text())
                names = {getattr(each, "name", "") for each in known.body}
                missing += [f"{node.module}.{each.name}" for each in node.names if each.name not in names]
    assert missing == []


@pages
def test_yaml_snippets_are_valid(page):
    for text in blocks(page, "yaml"):
        if "benchmark:" in text and "version:" in text:
            assert parse_monitor(text, named(page)).version == 1
        elif "features:" in text and "version:" in text:
            assert parse_feature_space(text, named(page)).features


@pages
def test_every_variable_exists(page):
    known = {f"REVET_{name.upper()}{end}" for name in Settings.model_fields for end in ("", "_FILE")} | OTHER_VARIABLES
    assert set(re.findall(r"\bREVET_[A-Z]\w+", page.read_text())) <= known
