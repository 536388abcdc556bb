"""Write docs/reference/monitor.md from the classes that read a monitor file, so that the page cannot rot.

python docs/make_reference.py
"""

# ruff: noqa: INP001 - a script of the documentation, not a package

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from domain.monitor import Monitor, Section

PAGE = Path(__file__).parent / "reference" / "monitor.md"
SIGNS: dict[type[Any], str] = {Ge: ">=", Gt: ">", Le: "<=", Lt: "<"}
HEAD = """\
# The monitor file

<!-- Written by `python docs/make_reference.py` from domain/monitor.py. Do not edit it by hand. -->

One YAML file describes one detector under watch. It lies in the folder `monitors/` of the workspace (`.revet/monitors/`
by default) and bears the monitor's name. `revet init` drafts it; `revet schema` prints its JSON schema for editors. The
file is strict: an unknown key, or a value that is not allowed, is an error that names file, key, value and rule.

A small file that is complete, since everything else has a default:

```yaml
version: 1
name: my-detector
feature_space: ../spaces/my-detector.yaml
benchmark:
  dataset: /data/traffic.parquet
  label: is_malicious
schedules:
  - {flow: reevaluate, cron: "0 3 * * *", timezone: Europe/Berlin}
```

A change of the file takes effect with the next flow run. `revet deploy` (or `revet up`) brings deployments to Prefect.
Those that exist already keep the schedules, pauses and parameters that the Prefect UI shows;
`revet deploy --reset-schedules` puts them back to the file's.
"""


def sections(model: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """Yield key and class of every part of `model` that is a mapping, or a list of mappings."""
    for key, field in model.model_fields.items():
        found = section_of(field.annotation)
        if found is not None:
            yield key, found


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section that a key of this type holds, or None."""
    parts = (annotation, *typing.get_args(annotation))
    return next((part for part in parts if inspect.isclass(part) and issubclass(part, Section)), None)


def meanings(model: type[Section]) -> dict[str, str]:
    """Return the meaning of each key, from the `Attributes:` of the class."""
    text = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", f"\n{text}"):
        names, separator, meaning = entry.strip().partition(": ")
        if separator:
            found |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return found


def summary(model: type[Section]) -> str:
    """Return the first line of the class's docstring."""
    return inspect.cleandoc(model.__doc__ or "").splitlines()[0]


def allowed(annotation: Any, metadata: list[Any]) -> str:
    """Return in words what a value may be."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return allowed(inner, [*metadata, *more])
    limits = [text for entry in metadata for text in _limits(entry)]
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        inner = typing.get_args(annotation)[0]
        return "a list of mappings" if section_of(inner) else f"a list: {allowed(inner, [])}"
    if section_of(annotation):
        return "a mapping"
    named = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}
    kind = named.get(annotation, str(annotation))
    return " ".join([kind, " and ".join(limits)]).strip()


def _limits(entry: Any) -> Iterator[str]:
    if isinstance(entry, FieldInfo):
        for part in entry.metadata:
            yield from _limits(part)
    elif type(entry) in SIGNS:
        value = getattr(entry, type(entry).__name__.lower())
        yield f"{SIGNS[type(entry)]} {value:g}" if value < 2**31 else f"{SIGNS[type(entry)]} 2^31"
    elif pattern := getattr(entry, "pattern", None):
        yield f"that matches `{pattern}`"


def default(field: FieldInfo) -> str:
    """Return the default as YAML would have it; a section's own keys have theirs."""
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Section):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(each) for each in value)}]`"
    return "empty" if value == "" else f"`{value}`"


def table(model: type[Section], prefix: str) -> list[str]:
    """Return the table of one section.

    Raises:
        KeyError: a key has no meaning in the class's docstring.
    """
    told, lines = meanings(model), ["| key | meaning | allowed | default |", "| --- | --- | --- | --- |"]
    for key, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None:
            meaning = f"{summary(inner)} See [`{prefix}{key}`](#{anchor(prefix + key)})."
        elif len(model.model_fields) == 1 and key not in told:
            meaning = summary(model)
        else:
            meaning = told[key]
        meaning = meaning[0].upper() + meaning[1:]
        cells = [f"`{key}`", meaning, allowed(field.annotation, list(field.metadata)), default(field)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def anchor(key: str) -> str:
    """Return the anchor of the heading that shows `key`."""
    return re.sub(r"[^a-z0-9_-]", "", key.lower())


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## The whole file", "", *table(Monitor, "")]
    for key, model in sections(Monitor):
        lines = ["", f"## `{key}`", "", summary(model), "", *table(model, f"{key}.")]
        parts += lines
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
