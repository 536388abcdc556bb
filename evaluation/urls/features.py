"""Lexical features of URLs, in the order of the shipped feature space `phishtank`.

Scheme and a leading `www.` are left out on purpose: their share moves with the years and with the way benign and
malicious URLs were collected, so a detector that sees them learns the collection.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluation.urls.parts import UrlParts

URL_FEATURES: tuple[str, ...] = (
    "length_url", "length_host", "length_domain", "length_path", "length_query",
    "n_subdomains", "n_dots_path", "n_hyphens_host", "n_hyphens_path", "n_digits_host", "n_digits_path",
    "n_slashes", "n_underscores", "n_percents", "n_equals", "n_ampersands", "n_ats", "n_specials",
    "n_hints", "n_brands_outside_domain", "longest_token_host", "longest_token_path",
    "is_ip", "has_punycode", "has_port", "has_suffix_in_path", "has_suffix_in_subdomain", "has_page_extension",
    "has_risky_suffix", "entropy_host", "entropy_path", "vowel_share_domain",
)  # fmt: skip

_HINTS = (
    "account", "admin", "auth", "bank", "billing", "confirm", "login", "logon", "password", "pay", "secure", "security",
    "signin", "support", "update", "validat", "verif", "wallet", "webscr", "wp-",
)  # fmt: skip
_BRANDS = (
    "adobe", "alibaba", "amazon", "apple", "chase", "dhl", "docusign", "dropbox", "ebay", "facebook", "google",
    "icloud", "instagram", "linkedin", "microsoft", "netflix", "office365", "outlook", "paypal", "santander", "steam",
    "usps", "wellsfargo", "whatsapp", "yahoo",
)  # fmt: skip
_RISKY_SUFFIXES = frozenset(
    {"buzz", "cf", "click", "country", "ga", "gq", "icu", "info", "link", "live", "loan", "ml", "online", "pw", "ru",
     "shop", "site", "space", "su", "tk", "top", "vip", "work", "xyz"}
)  # fmt: skip
_SUFFIX_TOKEN = re.compile(r"(?:^|[./_-])(?:com|net|org|co|gov|edu|info)(?=[./_?-]|$)")
_PAGE = re.compile(r"\.(?:php|html?|aspx?|jsp|cgi|exe|js|zip)$")
_TOKEN = re.compile(r"[a-z0-9]+")


def extract(urls: Sequence[str]) -> NDArray[np.float64]:
    """Return the features of `urls`, `(n, d)` float64 with columns `URL_FEATURES`; never raises on odd text."""
    if not len(urls):
        return np.zeros((0, len(URL_FEATURES)))
    return np.array([_row(str(url)) for url in urls], dtype=np.float64)


def _row(url: str) -> tuple[float, ...]:
    parts = UrlParts.of(url)
    host, domain, subdomain = parts.host.lower(), parts.domain.lower(), parts.subdomain.lower()
    path, query = parts.path.lower(), parts.query.lower()
    tail = path + query + parts.fragment.lower()
    length = len(parts.user) + len(host) + len(parts.port) + len(tail)
    outside = parts.user.lower() + subdomain + tail
    name = domain.partition(".")[0]
    letters = [character for character in name if character.isalpha()]
    return (
        length, len(host), len(domain), len(path), len(tail) - len(path),
        subdomain.count("."), tail.count("."), host.count("-"), tail.count("-"), _digits(host), _digits(tail),
        tail.count("/"), tail.count("_"), tail.count("%"), tail.count("="), tail.count("&"), url.count("@"),
        sum(tail.count(mark) for mark in "~,;:!*$+'()| "),
        sum(hint in outside for hint in _HINTS), sum(brand in outside for brand in _BRANDS),
        _longest(host), _longest(tail),
        parts.is_ip, "xn--" in host, bool(parts.port), bool(_SUFFIX_TOKEN.search(tail)),
        bool(_SUFFIX_TOKEN.search(subdomain)), bool(_PAGE.search(path)), parts.suffix in _RISKY_SUFFIXES,
        _entropy(host), _entropy(tail), sum(letter in "aeiou" for letter in letters) / max(len(letters), 1),
    )  # fmt: skip


def _digits(text: str) -> int:
    return sum("0" <= character <= "9" for character in text)


def _longest(text: str) -> int:
    return max(map(len, _TOKEN.findall(text)), default=0)


def _entropy(text: str) -> float:
    """Return Shannon entropy of the characters in bits, 0 for empty text."""
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in Counter(text).values()) + 0.0
