"""What may be deleted: content that nothing in the ledger names, and that is not in the making."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import JSON, String, Text, select

from registry.content import ContentStore
from registry.ledger.engine import Ledger
from registry.ledger.tables import metadata

GRACE = timedelta(hours=24)
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_NOT_REFERENCES = {"seen"}  # one row a sample; its columns name samples and batches, never content


@dataclass(frozen=True, slots=True)
class Collection:
    """What `gc` found, and deleted unless it was a dry run."""

    digests: tuple[str, ...]
    bytes: int
    kept: int
    dry_run: bool


def referenced(ledger: Ledger) -> set[str]:
    """Return every digest that stands anywhere in the ledger, inside JSON too."""
    found: set[str] = set()
    with ledger.read() as connection:
        for table in metadata.sorted_tables:
            columns = [column for column in table.columns if isinstance(column.type, (JSON, String, Text))]
            if table.name in _NOT_REFERENCES or not columns:
                continue
            for row in connection.execute(select(*columns).execution_options(yield_per=1000)):
                for value in row:
                    text = value if isinstance(value, str) else json.dumps(value)
                    found.update(_DIGEST.findall(text))
    return found


def gc(ledger: Ledger, content: ContentStore, *, dry_run: bool = True, grace: timedelta = GRACE) -> Collection:
    """Return the content that nothing in the ledger names and that is older than `grace`; deletes it unless dry.

    Young files are kept: a writer stores the bytes, or finds them stored and renews their time, before the
    transaction that names them.
    """
    oldest = time.time() - grace.total_seconds()
    names = referenced(ledger)
    digests, size, kept = [], 0, 0
    for digest in content.digests():
        facts = content.path(digest).stat()
        if digest in names or facts.st_mtime > oldest:
            kept += 1
            continue
        if not dry_run and not content.discard(digest, written_before=oldest):
            kept += 1
            continue
        digests.append(digest)
        size += facts.st_size
    return Collection(tuple(digests), size, kept, dry_run)
