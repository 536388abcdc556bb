"""Edits that an attacker can make to a URL without losing the page behind it.

The registered domain stays at the levels weak and expected; only a strong attacker buys another one. Path and query
are the attacker's own server's to interpret, so any token there may be added, dropped or written differently.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from domain.features import Level
from evaluation.urls.parts import MAX_URL_LENGTH, UrlParts

Edit = Callable[[UrlParts, np.random.Generator], UrlParts]
_WORDS = (
    "about", "article", "blog", "category", "docs", "en", "events", "files", "gallery", "help", "history", "images",
    "index", "library", "media", "news", "page", "people", "posts", "press", "product", "research", "search", "store",
    "story", "topics", "travel", "view", "wiki", "world",
)  # fmt: skip
_KEYS = ("id", "lang", "p", "page", "q", "ref", "s", "sort", "v", "view")
_HOST_WORDS = ("app", "blog", "cdn", "docs", "en", "img", "m", "news", "shop", "static", "web")
_DOMAIN_WORDS = ("garden", "harbor", "lumen", "maple", "orient", "river", "silver", "studio", "summit", "violet")
_ENDINGS = ("", "/", ".html", ".php", ".htm", ".aspx")
_PAGE_ENDINGS = (".html", ".htm", ".php", ".aspx", ".asp", ".jsp")


def propose_edits(url: str, rng: np.random.Generator, level: Level) -> list[str]:
    """Return distinct variants of `url`, one edit away, without `url` itself; the order follows the edits."""
    parts = UrlParts.of(url)
    edits = [*_WEAK, *(_EXPECTED if level != "weak" else ()), *(_STRONG if level == "strong" else ())]
    variants = dict.fromkeys(str(edit(parts, rng)) for edit in edits)
    return [variant for variant in variants if variant != url and len(variant) <= MAX_URL_LENGTH]


def _pick(rng: np.random.Generator, words: tuple[str, ...] | list[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _segments(parts: UrlParts) -> list[str]:
    return parts.path.split("/")


def _append_segment(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    return parts.changed(path=f"{parts.path.removesuffix('/')}/{_pick(rng, _WORDS)}")


def _insert_segment(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    segments = _segments(parts) if parts.path else ["", ""]
    segments.insert(int(rng.integers(1, len(segments) + 1)), _pick(rng, _WORDS))
    return parts.changed(path="/".join(segments))


def _append_phrase(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    phrase = "-".join(_pick(rng, _WORDS) for _ in range(int(rng.integers(2, 6))))
    return parts.changed(path=f"{parts.path.removesuffix('/')}/{phrase}")


def _append_parameter(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    pair = f"{_pick(rng, _KEYS)}={_pick(rng, _WORDS)}"
    return parts.changed(query=f"{parts.query}&{pair}" if parts.query else f"?{pair}", path=parts.path or "/")


def _append_number(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    return parts.changed(path=f"{parts.path.removesuffix('/')}/{int(rng.integers(1, 10_000))}")


def _encode_character(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    places = [index for index, character in enumerate(parts.path) if character.isascii() and character.isalpha()]
    # Letters of an escape stay: encoding them again would change what the server reads.
    places = [index for index in places if "%" not in parts.path[max(0, index - 2) : index]]
    if not places:
        return parts
    index = places[int(rng.integers(len(places)))]
    return parts.changed(path=f"{parts.path[:index]}%{ord(parts.path[index]):02x}{parts.path[index + 1 :]}")


def _drop_segment(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    segments = _segments(parts)
    if len(segments) < 2:
        return parts
    segments.pop(int(rng.integers(1, len(segments))))
    return parts.changed(path="/".join(segments) or "/")


def _replace_segment(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    segments = _segments(parts)
    if len(segments) < 2:
        return parts
    segments[int(rng.integers(1, len(segments)))] = _pick(rng, _WORDS)
    return parts.changed(path="/".join(segments))


def _flatten_path(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    return parts.changed(path=f"/{_pick(rng, _WORDS)}")


def _drop_path(parts: UrlParts, _rng: np.random.Generator) -> UrlParts:
    return parts.changed(path="/", query="", fragment="")


def _drop_query(parts: UrlParts, _rng: np.random.Generator) -> UrlParts:
    return parts.changed(query="", fragment="")


def _drop_user(parts: UrlParts, _rng: np.random.Generator) -> UrlParts:
    return parts.changed(user="")


def _change_ending(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    stem = parts.path.rstrip("/")
    for ending in _PAGE_ENDINGS:
        stem = stem.removesuffix(ending)
    # Without a segment there is nothing to end: `.php` behind a bare host would become part of the host.
    return parts.changed(path=stem + _pick(rng, _ENDINGS)) if stem.strip("/") else parts


def _drop_digits(parts: UrlParts, _rng: np.random.Generator) -> UrlParts:
    if "%" in parts.path:
        return parts
    return parts.changed(path="".join(character for character in parts.path if not character.isdigit()) or "/")


def _drop_marks(parts: UrlParts, _rng: np.random.Generator) -> UrlParts:
    return parts.changed(path=parts.path.replace("-", "").replace("_", "") or "/")


def _add_subdomain(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    return parts if parts.is_ip else parts.changed(subdomain=f"{_pick(rng, _HOST_WORDS)}.{parts.subdomain}")


def _drop_subdomain(parts: UrlParts, _rng: np.random.Generator) -> UrlParts:
    return parts.changed(subdomain=parts.subdomain.partition(".")[2])


def _replace_subdomain(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    return parts.changed(subdomain=f"{_pick(rng, _HOST_WORDS)}.") if parts.subdomain else parts


def _clear_subdomain(parts: UrlParts, _rng: np.random.Generator) -> UrlParts:
    return parts.changed(subdomain="", port="")


def _buy_domain(parts: UrlParts, rng: np.random.Generator) -> UrlParts:
    suffix = _pick(rng, ("com", "net", "org"))
    return parts.changed(domain=f"{_pick(rng, _DOMAIN_WORDS)}{_pick(rng, _DOMAIN_WORDS)}.{suffix}")


_WEAK: tuple[Edit, ...] = (
    _append_segment, _insert_segment, _append_phrase, _append_parameter, _append_number, _encode_character,
)  # fmt: skip
_EXPECTED: tuple[Edit, ...] = (
    _drop_segment, _replace_segment, _flatten_path, _drop_path, _drop_query, _drop_user, _change_ending, _drop_digits,
    _drop_marks, _add_subdomain, _drop_subdomain, _replace_subdomain, _clear_subdomain,
)  # fmt: skip
_STRONG: tuple[Edit, ...] = (_buy_domain,)
