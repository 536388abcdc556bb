from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from domain.errors import ArtifactMissing, ArtifactRefused, ArtifactTampered
from registry.artifacts import META, artifact_digest, manifest, read_folder, write_folder

FILES = {"detector.json": b"{}", "weights.safetensors": b"\x80\x04 weights", "portable.py": b"x = 1\n"}


class Bomb:
    """Unpickling this writes a file, as code of an attacker would run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.write_text, (self.target, "boom"))


def stored(tmp_path: Path) -> tuple[Path, str]:
    folder = tmp_path / "artifact"
    write_folder(folder, FILES)
    return folder, artifact_digest(FILES)


def test_what_was_written_comes_back_and_the_digest_covers_names_and_bytes(tmp_path):
    folder, digest = stored(tmp_path)
    assert read_folder(folder, digest) == FILES
    renamed = {"detector.json": FILES["portable.py"], "portable.py": FILES["detector.json"]}
    assert artifact_digest({**FILES, **renamed}) != digest
    assert set(manifest(FILES)) == set(FILES)


@pytest.mark.parametrize("name", sorted(FILES))
def test_one_changed_byte_is_tampering(tmp_path, name):
    folder, digest = stored(tmp_path)
    (folder / name).write_bytes(FILES[name] + b" ")
    with pytest.raises(ArtifactTampered, match=digest):
        read_folder(folder, digest)


def test_a_file_that_is_gone_is_tampering(tmp_path):
    folder, digest = stored(tmp_path)
    (folder / "portable.py").unlink()
    with pytest.raises(ArtifactTampered):
        read_folder(folder, digest)


@pytest.mark.parametrize("name", ["python_model.pkl", "model.pt", "data.bin", "sitecustomize.py", ".hidden"])
def test_a_planted_file_is_refused_by_its_name(tmp_path, name):
    folder, digest = stored(tmp_path)
    (folder / name).write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(ArtifactRefused, match="never a pickle"):
        read_folder(folder, digest)
    assert not (tmp_path / "boom").exists()


def test_a_pickle_under_an_allowed_name_is_tampering_and_does_not_run(tmp_path):
    folder, digest = stored(tmp_path)
    (folder / "weights.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    with pytest.raises(ArtifactTampered):
        read_folder(folder, digest)
    assert not (tmp_path / "boom").exists()


def test_a_link_and_a_folder_are_refused(tmp_path):
    folder, digest = stored(tmp_path)
    outside = tmp_path / "outside"
    outside.write_bytes(FILES["portable.py"])
    (folder / "portable.py").unlink()
    (folder / "portable.py").symlink_to(outside)
    with pytest.raises(ArtifactRefused, match="link"):
        read_folder(folder, digest)
    (folder / "portable.py").unlink()
    (folder / "portable.py").mkdir()
    with pytest.raises(ArtifactRefused):
        read_folder(folder, digest)


def test_only_what_mlflow_adds_itself_is_tolerated_and_never_opened(tmp_path):
    folder, digest = stored(tmp_path)
    (folder / META).write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    assert read_folder(folder, digest) == FILES
    assert not (tmp_path / "boom").exists()


def test_a_missing_folder_says_where_it_should_be(tmp_path):
    with pytest.raises(ArtifactMissing, match="nowhere"):
        read_folder(tmp_path / "nowhere", "0" * 64)


def test_a_pickle_is_not_written_either(tmp_path):
    with pytest.raises(ArtifactRefused):
        write_folder(tmp_path / "artifact", {**FILES, "model.pkl": b""})
