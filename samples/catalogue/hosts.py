"""The registered domain behind a URL, read from its text alone: nothing is ever resolved or fetched."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_AUTHORITY = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//([^/?#\\\\]*)|^([^/?#\\\\]*)")
# Second-level labels under which others register, as in example.co.uk; the public suffixes of country domains.
_SECOND_LEVEL = frozenset(
    "ac co com edu gen go gob gov gouv ltd mil ne net nom or org plc sch".split()  # noqa: SIM905 - reads better
)


def registered_domain(url: str) -> str:
    """Return the registered domain of `url` in lower case; an address of its own for IP hosts, "" without a host."""
    match = _AUTHORITY.match(url.strip())
    authority = (match.group(1) or match.group(2) or "") if match else ""
    host = authority.rpartition("@")[2].lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    host = host.strip(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    count = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
    return ".".join(labels[-count:])


def registered_domains(urls: Iterable[str]) -> NDArray[np.object_]:
    """Return the registered domain of each URL, `(n,)`."""
    return np.array([registered_domain(str(url)) for url in urls], dtype=object)
