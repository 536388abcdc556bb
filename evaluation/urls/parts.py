"""A URL cut into the parts that features and edits speak of; tolerant, since hostile URLs are the point."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Self

# Longer URLs are cut here, which is also the bound of the length features.
MAX_URL_LENGTH = 8192
_SHAPE = re.compile(
    r"^(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)?(?P<user>[^/?#@]*@)?(?P<host>\[[^\]/?#]*\]|[^/?#:]*)"
    r"(?P<port>:[0-9]*)?(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?$",
    re.DOTALL,
)
_IP = re.compile(r"^(\[.*\]|(0x[0-9a-f]+|[0-9]+)(\.(0x[0-9a-f]+|[0-9]+)){0,3})$")
# Second labels under which registries sell names, as in `example.co.uk`.
_REGISTRY_LABELS = frozenset({"ac", "co", "com", "edu", "go", "gob", "gov", "gouv", "ne", "net", "nom", "or", "org"})


@dataclass(frozen=True)
class UrlParts:
    """One URL; joined again, the parts give the text they came from.

    Attributes:
        scheme: with `://`, or empty.
        user: with `@`, or empty.
        www: a leading `www.` of the host, or empty.
        subdomain: labels before the registered domain with the final dot, or empty.
        domain: registered domain, or the whole IP address.
        port: with `:`, or empty.
        path, query, fragment: query with `?` and fragment with `#`, or empty.
    """

    scheme: str
    user: str
    www: str
    subdomain: str
    domain: str
    port: str
    path: str
    query: str
    fragment: str

    @classmethod
    def of(cls, url: str) -> Self:
        """Cut `url`; never raises, text of no URL shape becomes a path."""
        match = _SHAPE.match(url[:MAX_URL_LENGTH])
        if match is None:
            return cls("", "", "", "", "", "", url[:MAX_URL_LENGTH], "", "")
        found = {name: value or "" for name, value in match.groupdict().items()}
        host = found.pop("host")
        www = host[:4] if host[:4].lower() == "www." else ""
        rest = host[len(www) :]
        domain = rest if _IP.match(rest.lower()) else _registered(rest)
        return cls(www=www, subdomain=rest[: len(rest) - len(domain)], domain=domain, **found)

    @property
    def host(self) -> str:
        """Subdomain and registered domain, without `www.`."""
        return self.subdomain + self.domain

    @property
    def is_ip(self) -> bool:
        """Whether the host is a numeric address."""
        return _IP.match(self.domain.lower()) is not None

    @property
    def suffix(self) -> str:
        """The last label of the host, lower case; empty for an address."""
        return "" if self.is_ip else self.domain.rpartition(".")[2].lower()

    def changed(self, **parts: str) -> Self:
        """Return a copy with some parts replaced."""
        return replace(self, **parts)

    def __str__(self) -> str:
        return (
            f"{self.scheme}{self.user}{self.www}{self.subdomain}{self.domain}"
            f"{self.port}{self.path}{self.query}{self.fragment}"
        )


def _registered(host: str) -> str:
    labels = host.split(".")
    if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2].lower() in _REGISTRY_LABELS:
        return ".".join(labels[-3:])
    return ".".join(labels[-2:])
