"""Files are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus.ground.atomic_file import write_atomically


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


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/thread-self/fd/{}", "link"])
def test_an_open_file_is_written_through_its_descriptor(tmp_path: Path, name: str) -> None:
    """A file named by its open descriptor is appended to there, and is not replaced."""
    path = tmp_path / "file"
    path.write_bytes(b"before ")
    with path.open("ab") as file:
        named = tmp_path / "link"
        named.symlink_to(f"/dev/fd/{file.fileno()}")
        named = named if name == "link" else Path(name.format(file.fileno()))
        if not named.parent.is_dir():
            pytest.skip(f"there is no {named.parent}")
        write_atomically(named, [b"new ", b"parts "])
        file.write(b"after")
    assert path.read_bytes() == b"before new parts after"
    assert {*tmp_path.iterdir()} == {path, tmp_path / "link"}


def test_an_open_file_of_another_process_is_appended_to(tmp_path: Path) -> None:
    """A file named by a descriptor of another process is appended to, and is not replaced."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("there is no /proc")
    path = tmp_path / "file"
    path.write_bytes(b"before ")
    with path.open("ab") as file, subprocess.Popen(["sleep", "60"], stdout=file) as process:
        write_atomically(Path(f"/proc/{process.pid}/fd/1"), b"new")
        process.kill()
    assert path.read_bytes() == b"before new"


@pytest.mark.parametrize("name", ["/dev/fd/999", "/proc/self/fd/999"])
def test_a_closed_descriptor_is_an_error(name: str) -> None:
    """A descriptor that is not open is an error."""
    with pytest.raises(OSError, match=r"Bad file descriptor|No such file"):
        write_atomically(Path(name), b"x")


def test_a_fifo_gets_each_part_at_once(tmp_path: Path) -> None:
    """What is written in place is written part by part: it need not fit into memory."""
    fifo, has_read = tmp_path / "fifo", threading.Event()
    os.mkfifo(fifo)

    def read() -> None:
        with fifo.open("rb") as file:
            file.read(1)
            has_read.set()
            file.read()

    def parts() -> Iterator[bytes]:
        yield b"x" * 1_000_000
        assert has_read.wait(20), "the first part was kept in memory"
        yield b"y"

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    write_atomically(fifo, parts())
    reader.join(20)
    assert fifo.is_fifo()


def test_a_protected_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be written is an error and stays, also where it could be replaced."""
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(path: Path, mode: int) -> bool:  # as for anyone but root
        return mode != os.W_OK

    monkeypatch.setattr(os, "access", refuse)
    with pytest.raises(PermissionError):
        write_atomically(path, b"new")
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_a_circle_of_links_stays(tmp_path: Path) -> None:
    """A link that leads to itself is an error, and stays."""
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()


def test_another_name_of_the_file_keeps_the_old_content(tmp_path: Path) -> None:
    """Of a file with two names, one is replaced and the other one keeps the old content: both are whole."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"old")
    os.link(path, other)
    write_atomically(path, b"new")
    assert (path.read_bytes(), other.read_bytes()) == (b"new", b"old")
