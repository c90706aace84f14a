"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventbus.atomic_file import write_atomically


def test_a_new_file_and_its_directories_are_private(tmp_path: Path) -> None:
    """A new file gets mode 0600, new directories 0700; existing directories keep theirs."""
    tmp_path.chmod(0o755)
    path = tmp_path / "a" / "b" / "file.json"
    write_atomically(path, b"{}")
    assert path.read_bytes() == b"{}"
    modes = [oct(each.stat().st_mode & 0o777) for each in (path, path.parent, path.parent.parent, tmp_path)]
    assert modes == ["0o600", "0o700", "0o700", "0o755"]


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """A replaced file is private, and no other file is left in the directory."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "fdopen"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """If writing fails, the old file is unchanged, and no partial file is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(descriptor: int, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_in_its_place_is_an_error_and_stays(tmp_path: Path) -> None:
    """A directory in the place of the file is an error, and stays."""
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "sub" / "..", b"x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "taken", b"x")
    assert (tmp_path / "taken").is_dir()
