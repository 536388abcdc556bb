"""Content digests: one way to turn a value into the name under which evidence refers to it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

DIGEST_LENGTH = 64


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no white space; refuses NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest_json(value: Any) -> str:
    """Return the digest of the canonical JSON of `value`."""
    return digest_bytes(canonical_json(value).encode())
