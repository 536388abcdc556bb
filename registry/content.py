"""The content store: files named by the digest of their bytes, written once, verified at every read."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domain.digests import canonical_json, digest_bytes
from domain.errors import CorruptFile

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ContentStore:
    """Bytes by digest in a folder; a second write of the same bytes is harmless.

    Attributes:
        root: the folder; files lie in sub-folders of two digits.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Return where the bytes of `digest` lie, or would lie.

        Raises:
            CorruptFile: `digest` is not 64 hexadecimal digits.
        """
        if not _DIGEST.fullmatch(digest):
            raise CorruptFile(f"{digest!r} is no digest: 64 lower-case hexadecimal digits are needed")
        return self.root / digest[:2] / digest

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its digest; bytes that lie there already count as written now."""
        digest = digest_bytes(data)
        target = self.path(digest)
        if _renewed(target, digest):
            return digest
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{digest}.{uuid.uuid4().hex}")
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes of `digest`.

        Raises:
            CorruptFile: the file is missing, unreadable, or its bytes have another digest.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptFile(
                f"content {digest} cannot be read at {path}: {error}; restore it from a backup"
            ) from error
        if (found := digest_bytes(data)) != digest:
            raise CorruptFile(f"content {path} has digest {found}, not {digest}; restore it from a backup")
        return data

    def put_json(self, value: Any) -> str:
        """Store the canonical JSON of `value` and return its digest."""
        return self.put(canonical_json(value).encode())

    def get_json(self, digest: str) -> Any:
        """Return the value whose canonical JSON has `digest`.

        Raises:
            CorruptFile: as `get`, or the bytes are not JSON.
        """
        try:
            return json.loads(self.get(digest))
        except ValueError as error:
            raise CorruptFile(f"content {digest} is not JSON: {error}") from error

    def discard(self, digest: str, *, written_before: float) -> bool:
        """Delete the bytes of `digest` unless put since `written_before` (epoch seconds); says whether it did.

        The file is moved aside before its time is read: a `put` at the same moment either comes first, and the file
        is moved back, or finds nothing and writes it anew.
        """
        path = self.path(digest)
        aside = path.with_name(f".{digest}.{uuid.uuid4().hex}")
        path.rename(aside)
        if aside.stat().st_mtime > written_before:
            aside.replace(path)
            return False
        aside.unlink()
        return True

    def digests(self) -> Iterator[str]:
        """Give the digest of every stored file, in order."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
            if _DIGEST.fullmatch(path.name):
                yield path.name


def _renewed(path: Path, digest: str) -> bool:
    """Say whether `path` holds the bytes of `digest`, and renew its time of writing: clean-up keeps young files."""
    try:
        os.utime(path)
        return digest_bytes(path.read_bytes()) == digest
    except OSError:
        return False


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file durable; platforms that cannot sync a folder do it themselves."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
