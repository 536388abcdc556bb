from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.digests import digest_bytes
from domain.errors import CorruptFile
from registry.content import ContentStore
from registry.reports import put_benchmark
from registry.retention import gc


@given(st.binary(max_size=1000))
@settings(max_examples=30, deadline=None)
def test_what_is_put_comes_back(tmp_path_factory, data):
    store = ContentStore(tmp_path_factory.mktemp("content"))
    digest = store.put(data)
    assert digest == digest_bytes(data)
    assert store.get(digest) == data
    assert store.put(data) == digest
    assert list(store.digests()) == [digest]


def test_changed_bytes_are_refused_and_a_new_put_repairs_them(tmp_path):
    store = ContentStore(tmp_path)
    digest = store.put(b"evidence")
    store.path(digest).write_bytes(b"Evidence")
    with pytest.raises(CorruptFile, match="has digest"):
        store.get(digest)
    store.put(b"evidence")
    assert store.get(digest) == b"evidence"


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_what_is_no_digest_never_becomes_a_path(tmp_path, digest):
    with pytest.raises(CorruptFile, match="no digest"):
        ContentStore(tmp_path).get(digest)


def test_missing_content_says_where_it_should_be(tmp_path):
    with pytest.raises(CorruptFile, match=str(tmp_path)):
        ContentStore(tmp_path).get("0" * 64)


def test_json_comes_back_and_what_is_not_json_is_refused(tmp_path):
    store = ContentStore(tmp_path)
    value = {"b": [1, 2.5, None], "a": "ü"}
    assert store.get_json(store.put_json(value)) == value
    with pytest.raises(CorruptFile, match="not JSON"):
        store.get_json(store.put(b"\xff"))


def test_no_draft_is_left_behind(tmp_path):
    store = ContentStore(tmp_path)
    digest = store.put(b"x")
    assert [path.name for path in store.path(digest).parent.iterdir()] == [digest]


def test_gc_deletes_only_old_content_that_the_ledger_does_not_name(ledger, tmp_path):
    store = ContentStore(tmp_path / "content")
    named, loose, young = store.put(b"named"), store.put(b"loose"), store.put(b"young")
    for digest in (named, loose):
        os.utime(store.path(digest), (1, 1))
    put_benchmark(ledger, "m", digest="f" * 64, kind="clean", uri=f"content:{named}", rows=3)

    dry = gc(ledger, store)
    assert (dry.digests, dry.bytes, dry.kept, dry.dry_run) == ((loose,), 5, 2, True)
    assert store.get(loose) == b"loose"

    gc(ledger, store, dry_run=False)
    assert set(store.digests()) == {named, young}
    assert gc(ledger, store, grace=timedelta(seconds=-60)).digests == (young,)


def test_old_content_that_is_put_again_is_young_and_survives_gc(ledger, tmp_path):
    store = ContentStore(tmp_path / "content")
    digest = store.put(b"orphan")
    os.utime(store.path(digest), (1, 1))
    store.put(b"orphan")
    assert gc(ledger, store, dry_run=False).digests == ()
    assert store.get(digest) == b"orphan"


def test_content_that_is_put_while_gc_runs_is_not_deleted(ledger, tmp_path, monkeypatch):
    store = ContentStore(tmp_path / "content")
    digest = store.put(b"orphan")
    os.utime(store.path(digest), (1, 1))
    discard = store.discard

    def put_first(found, *, written_before):
        store.put(b"orphan")  # after gc has seen an old file, before it deletes that
        return discard(found, written_before=written_before)

    monkeypatch.setattr(store, "discard", put_first)
    collected = gc(ledger, store, dry_run=False)
    assert (collected.digests, collected.kept) == ((), 1)
    assert list(store.path(digest).parent.iterdir()) == [store.path(digest)]
