"""Ask a server whether it is there."""

from __future__ import annotations


def answers(url: str, seconds: float = 3.0) -> bool:
    """Return whether a GET of `url` is answered with a status below 400."""
    import httpx

    try:
        return httpx.get(url, timeout=seconds, trust_env=False).status_code < 400
    except httpx.HTTPError:
        return False
