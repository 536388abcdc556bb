from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from domain.digests import digest_bytes
from domain.errors import ConfigError, CorruptFile, DataError, SchemaMismatch, ServiceUnavailable
from domain.features import load_feature_space
from samples.catalogue import catalogue
from samples.catalogue.catalogue import DATA_DIR_VARIABLE, DatasetCard, fetch_dataset, import_dataset, list_datasets
from samples.catalogue.hosts import registered_domain


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one small set, and a catalogue that knows it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "kind": ["x", "y", "x"], "label": [0, 1, 0]})
    frame.to_parquet(folder / "small.parquet", index=False)
    card = DatasetCard.model_validate(
        {
            "name": "small", "title": "Small", "feature_space": "nsl-kdd", "address": "https://example.org/small",
            "citation": "", "licence": "CC0", "label": {"column": "label", "benign": ["0"]},
            "checks": ["no-column-all-null", "both-classes"], "traps": [],
            "files": [{"part": "all", "name": "small.parquet", "rows": 3,
                       "sha256": digest_bytes((folder / "small.parquet").read_bytes()),
                       "columns": {"number": ["a", "label"], "text": ["kind"]}}],
        }
    )  # fmt: skip
    monkeypatch.setattr(catalogue, "list_datasets", lambda: (card,))
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    return folder


@pytest.fixture
def server(shelf: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(shelf)))
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join(10)


def test_every_shipped_card_has_a_feature_space_and_an_address() -> None:
    names = [card.name for card in list_datasets()]
    assert names == ["nsl-kdd", "url-phishing", "phishtank", "simulator"]
    for card in list_datasets():
        columns = {name for item in card.files for group in item.columns.values() for name in group}
        assert card.licence
        assert card.address or not card.files
        if card.name in {"nsl-kdd", "url-phishing"}:
            assert set(load_feature_space(card.feature_space).names) <= columns


def test_an_imported_set_can_be_loaded(shelf: Path, tmp_path: Path) -> None:
    assert import_dataset("small", shelf, tmp_path / "data") == [tmp_path / "data" / "small.parquet"]
    loaded = catalogue.load_dataset("small", tmp_path / "data")
    assert loaded.frame["part"].tolist() == ["all"] * 3
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["small.parquet"]


def test_the_environment_names_the_folder(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(shelf))
    assert len(catalogue.load_dataset("small").frame) == 3


def test_a_missing_set_says_how_to_get_it(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"example\.org.*revet data import small"):
        catalogue.load_dataset("small", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"not in the catalogue.*small"):
        catalogue.load_dataset("large", tmp_path)


def test_changed_bytes_are_refused_and_nothing_is_copied(shelf: Path, tmp_path: Path) -> None:
    with (shelf / "small.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptFile, match="SHA-256"):
        import_dataset("small", shelf, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [({"a": None}, SchemaMismatch, "kind 'number'"), ({"kind": [1, 2, 3]}, SchemaMismatch, "kind 'text'"),
     ({"label": 0}, DataError, "one class"), ({"a": float("nan")}, DataError, "nothing but nulls")],
)  # fmt: skip
def test_a_frame_that_breaks_its_card_is_refused(
    shelf: Path, change: dict[str, object], error: type[Exception], told: str
) -> None:
    card = catalogue.list_datasets()[0]
    frame = pd.read_parquet(shelf / "small.parquet").assign(**change)
    with pytest.raises(error, match=told):
        catalogue.check_frame(frame, card.files[0], card, "here")
    with pytest.raises(SchemaMismatch, match=r"\['a'\] are missing"):
        catalogue.check_frame(frame.drop(columns="a"), card.files[0], card, "here")


def test_a_set_is_fetched_from_a_mirror_once(shelf: Path, server: str, tmp_path: Path) -> None:
    target = tmp_path / "data"
    assert fetch_dataset("small", target, base_url=server) == [target / "small.parquet"]
    (shelf / "small.parquet").unlink()
    assert fetch_dataset("small", target, base_url=server) == [target / "small.parquet"]


def test_a_mirror_with_other_bytes_or_without_the_file_is_an_error(shelf: Path, server: str, tmp_path: Path) -> None:
    (shelf / "small.parquet").write_bytes(b"other")
    with pytest.raises(CorruptFile, match="digest"):
        fetch_dataset("small", tmp_path / "data", base_url=server)
    (shelf / "small.parquet").unlink()
    with pytest.raises(ServiceUnavailable, match="404"):
        fetch_dataset("small", tmp_path / "data", base_url=server)
    assert not (tmp_path / "data" / "small.parquet").exists()


def test_a_set_without_download_address_says_where_to_get_it(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no direct download"):
        fetch_dataset("small", tmp_path)


@pytest.mark.parametrize(
    ("url", "domain"),
    [("http://www.Shop.example.com/a", "example.com"), ("https://a.b.example.co.uk:8080/", "example.co.uk"),
     ("http://user@10.0.0.1/x", "10.0.0.1"), ("http://user:pw@evil.com@example.org/", "example.org"),
     ("example.net/path", "example.net"), ("http://[::1]:80/", "::1"), ("", ""),
     ("http://example.com\\@evil.net/", "example.com")],
)  # fmt: skip
def test_the_registered_domain_is_read_from_the_text(url: str, domain: str) -> None:
    assert registered_domain(url) == domain
