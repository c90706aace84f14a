"""Following when files are replaced, away, or cannot be read for a while."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from eventbus.history import Damage, EventLog, directory_watch, tail, tailed_writer
from eventbus.history.directory_watch import DirectoryWatch
from eventbus.history.record_numbers import RecordNumbers
from eventbus.history.selection import Selection
from tests.history.followed import nothing_more, take, take_numbers
from tests.history.log_examples import START, Segments, append, header, progress, stored


@pytest.fixture(autouse=True)
def _polls_are_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "_POLL_SECONDS", 0.005)
    monkeypatch.setattr(directory_watch, "_LIST_SECONDS", 0)


def ignored(damage: Damage) -> None:
    """Take a report of damage."""


@contextmanager
def failing(name: str, number: int, part: str = "events") -> Generator[None]:
    """Let a function of `os` fail for paths that contain a text."""
    real: Callable[..., Any] = getattr(os, name)

    def fails(path: Any, *args: Any, **kwargs: Any) -> Any:
        if part in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, fails)
        yield


# Another file in its place.


@pytest.mark.anyio
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("last", [4, 6])
async def test_another_file_is_noticed_however_long_it_is(
    tmp_path: Path, segment: Segments, in_place: bool, last: int
) -> None:
    """A file that is replaced by one as long or longer, also in place, is read from its beginning."""
    path = segment(stored(1) + stored(2))
    async with EventLog(tmp_path).follow("beginning") as following:
        assert await take_numbers(following, 2) == [1, 2]
        content = header() + b"".join(map(stored, range(3, last + 1)))
        if in_place:
            path.write_bytes(content)
        else:
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").replace(path)
        assert await take_numbers(following, last - 2) == list(range(3, last + 1))
        append(path, stored(7))
        assert await take_numbers(following, 1) == [7]
        assert await nothing_more(following)


@pytest.mark.anyio
async def test_records_between_others_that_were_received_are_new(tmp_path: Path, segment: Segments) -> None:
    """A file is restored with records that the damaged one before it did not have: only these come."""
    torn = stored(2)[:50]
    path = segment(stored(1) + torn + b"\n" + stored(4))
    async with EventLog(tmp_path, on_damage=ignored).follow("beginning") as following:
        assert await take_numbers(following, 2) == [1, 4]
        path.write_bytes(header() + b"".join(map(stored, range(1, 6))))
        assert await take_numbers(following, 3) == [2, 3, 5]


@pytest.mark.anyio
async def test_an_earlier_segment_that_is_replaced_is_read(tmp_path: Path, segment: Segments) -> None:
    """A segment whose bus writes a later one may be replaced, too: it is looked at again."""
    first = segment(stored(1))
    segment(stored(4), first_seq=4, start=START + timedelta(hours=1))
    async with EventLog(tmp_path).follow("beginning") as following:
        assert await take_numbers(following, 2) == [1, 4]
        append(first, stored(2), stored(3))
        assert await take_numbers(following, 2) == [2, 3]


@pytest.mark.anyio
@pytest.mark.parametrize("is_link", [True, False])
async def test_a_segment_of_two_names_comes_once(tmp_path: Path, segment: Segments, is_link: bool) -> None:
    """A hard link to a segment, and a copy of it, bring no record again."""
    path = segment(stored(1) + stored(2))
    second = path.with_name(path.name.replace("2026", "2027"))
    async with EventLog(tmp_path).follow("beginning") as following:
        assert await take_numbers(following, 2) == [1, 2]
        if is_link:
            second.hardlink_to(path)
        else:
            second.write_bytes(path.read_bytes())
        append(second, stored(3))
        assert await take_numbers(following, 1) == [3]
        assert await nothing_more(following, at_least=50)


@pytest.mark.anyio
async def test_records_without_a_number_come_once(tmp_path: Path, segment: Segments) -> None:
    """Lines that another program appended without numbers are received, before and after a replacement."""
    plain = b"{" + stored(1).partition(b",")[2]
    path = segment(stored(1) + plain)
    async with EventLog(tmp_path).follow("beginning") as following:
        await take(following, 2)
        append(path, plain, stored(2))
        assert (await take_numbers(following, 2))[1] == 2
        path.write_bytes(header(extra="another") + stored(1) + stored(3))
        assert await take_numbers(following, 1) == [3]


# Away, and back.


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["", "events"])
async def test_a_directory_that_is_away_for_a_moment(tmp_path: Path, segment: Segments, name: str) -> None:
    """Nothing comes twice when the directory is back, and what was appended meanwhile comes."""
    log = tmp_path / "log"
    segment(stored(1)).parent.rename(tmp_path / "kept")
    log.mkdir()
    (tmp_path / "kept").rename(log / "events")
    directory, hidden = log / name, tmp_path / "hidden"
    async with EventLog(log).follow("beginning") as following:
        assert await take_numbers(following, 1) == [1]
        directory.rename(hidden)
        assert await nothing_more(following)
        (path,) = hidden.rglob("*.jsonl")
        append(path, stored(2))
        hidden.rename(directory)
        assert await take_numbers(following, 1) == [2]
        assert await nothing_more(following, at_least=50)


@pytest.mark.anyio
async def test_a_segment_that_is_away_for_a_moment(tmp_path: Path, segment: Segments) -> None:
    """A segment that is renamed goes on where it was when it comes back, also under another name."""
    path = segment(stored(1))
    async with EventLog(tmp_path).follow() as following:
        for number, back in enumerate([path, path.with_name(path.name.replace("2026", "2025"))], 2):
            hidden = path.rename(tmp_path / "hidden")
            append(hidden, stored(number))
            assert await nothing_more(following)
            hidden.rename(back)
            assert await take_numbers(following, 1) == [number]
        assert await nothing_more(following, at_least=50)


@pytest.mark.anyio
async def test_a_link_that_leads_elsewhere(tmp_path: Path, segment: Segments) -> None:
    """A log whose directory is a link to a copy now: the copied records do not come again."""
    segment(stored(1))
    (tmp_path / "log").symlink_to(tmp_path)
    async with EventLog(tmp_path / "log").follow("beginning") as following:
        assert await take_numbers(following, 1) == [1]
        copy = tmp_path / "copy" / "events"
        copy.mkdir(parents=True)
        for path in (tmp_path / "events").iterdir():
            (copy / path.name).write_bytes(path.read_bytes() + stored(2))
        (tmp_path / "link").symlink_to(tmp_path / "copy")
        (tmp_path / "link").rename(tmp_path / "log")
        assert await take_numbers(following, 1) == [2]


# Not readable.


@pytest.mark.parametrize("name", ["open", "stat", "listdir", "pread"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENFILE, errno.ESTALE])
def test_what_fails_is_reported_once_and_tried_again(
    tmp_path: Path, segment: Segments, name: str, number: int
) -> None:
    """Appended and new segments come when they can be read again, in their order."""
    path = segment(stored(1))
    reported: list[Damage] = []
    part = "events" if name != "pread" else ""  # which gets no path, but a descriptor
    second = segment(stored(3), first_seq=3, start=START + timedelta(hours=1)).rename(tmp_path / "second")
    watch = DirectoryWatch(tmp_path, "beginning", Selection(), True, reported.append)
    watch.begin()
    assert polled(watch) == [1]
    with failing(name, number, part):
        append(path, stored(2))
        second.rename(path.with_name(path.name.replace("2026", "2027")))
        assert polled(watch) == ([2] if name == "listdir" else [])
    assert polled(watch) == ([3] if name == "listdir" else [2, 3])
    assert 0 < len(reported) == len({damage.path for damage in reported})
    assert {damage.length for damage in reported} == {0}


def polled(watch: DirectoryWatch) -> list[int]:
    """Return the numbers of the records that 50 polls find."""
    return [record.seq for _ in range(50) for record in watch.poll()]


@pytest.mark.anyio
async def test_a_moment_without_descriptors(tmp_path: Path, segment: Segments) -> None:
    """The limit of open files is reached while records are appended: they come afterwards."""
    paths = [segment(stored(1), bus_id=f"b{number}") for number in range(3)]
    reported: list[Damage] = []
    async with EventLog(tmp_path, on_damage=reported.append).follow() as following:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        for path in paths:
            append(path, stored(2))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            assert await nothing_more(following)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert await take_numbers(following, 3) == [2, 2, 2]
        assert await nothing_more(following)
    assert [damage.reason for damage in reported if "it is tried again" not in damage.reason] == []
    assert len(reported) == 1


@pytest.mark.anyio
async def test_a_segment_that_stays_unreadable_holds_up_nothing_for_long(
    tmp_path: Path, segment: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later segments wait two seconds for it; its records come when it can be read."""
    monkeypatch.setattr(tailed_writer, "_PATIENCE_SECONDS", 0.01)
    segment(stored(1))
    segment(stored(2), first_seq=2, start=START + timedelta(hours=1))
    later = segment(stored(3), first_seq=3, start=START + timedelta(hours=2))
    async with EventLog(tmp_path, on_damage=ignored).follow("beginning") as following:
        with failing("open", errno.EACCES, "T04"):
            assert await take_numbers(following, 2) == [1, 3]
            append(later, stored(4))
            assert await take_numbers(following, 1) == [4]
        assert await take_numbers(following, 1) == [2]


@pytest.mark.anyio
async def test_a_failing_report_loses_no_record(tmp_path: Path, segment: Segments) -> None:
    """What `on_damage` raises comes out of the read; the records are received by the next one."""
    path = segment(b"")
    calls: list[Damage] = []

    def fail_once(damage: Damage) -> None:
        calls.append(damage)
        if len(calls) == 1:
            raise LookupError

    async with EventLog(tmp_path, on_damage=fail_once).follow() as following:
        append(path, stored(1), b"poison\n", stored(2))
        with pytest.raises(LookupError):
            await take(following, 1)
        assert await take_numbers(following, 2) == [1, 2]


# Positions.


@pytest.mark.anyio
async def test_a_position_outlives_files_that_are_away(tmp_path: Path, segment: Segments) -> None:
    """From a position on, a segment that is back later, or has a second name, does not come again."""
    path, other = segment(stored(1) + stored(2)), segment(stored(1), bus_id="b1")
    async with EventLog(tmp_path).follow("beginning") as following:
        await take(following, 3)
        position = following.position
    hidden = path.rename(tmp_path / "hidden")
    append(hidden, stored(3))
    other.with_name(other.name.replace("2026", "2027")).write_bytes(other.read_bytes())
    async with EventLog(tmp_path).follow(position) as following:
        assert await nothing_more(following)
        assert following.position == position
        hidden.rename(path)
        assert await take_numbers(following, 1) == [3]
        assert await nothing_more(following)


@pytest.mark.anyio
@pytest.mark.parametrize("inside", [True, False])
async def test_a_position_that_fits_no_line_any_more(tmp_path: Path, segment: Segments, inside: bool) -> None:
    """Reading begins at the line that contains it, or at the file's end if that comes earlier."""
    path = segment(stored(1) + stored(2))
    position = {path.name: path.stat().st_size + (1_000 if not inside else -5)}
    async with EventLog(tmp_path).follow(position) as following:
        append(path, stored(3))
        assert await take_numbers(following, 1 + inside) == [2, 3][not inside :]


# What was received.


def test_numbers_are_kept_as_ranges() -> None:
    """Numbers that touch become one range, in any order, and of too many ranges the oldest become one."""
    numbers = RecordNumbers()
    for first, last in [(5, 6), (1, 2), (9, 9), (3, 4), (7, 20)]:
        numbers.add(first, last)
    assert [number for number in range(25) if number in numbers] == list(range(1, 21))
    for number in range(100, 30_000, 2):
        numbers.add(number, number)
    assert 101 in numbers
    assert 29_997 not in numbers
    assert 29_998 in numbers


def test_many_segments_cost_no_descriptor_and_little_time(tmp_path: Path, segment: Segments) -> None:
    """Following 2,000 segments keeps none open; a poll looks at a few of them."""
    first = segment(stored(1))
    content = first.read_bytes()
    for number in range(2_000):
        first.with_name(f"20260102T030406.{number:06d}Z-1-c{number % 500}.jsonl").write_bytes(content)
    watch = DirectoryWatch(tmp_path, "now", Selection(), True, print)
    watch.begin()
    for _ in range(41):
        assert watch.poll() == []
    looked_at: list[Any] = []
    real = os.stat

    def counting(path: Any, **kwargs: Any) -> os.stat_result:
        looked_at.append(path)
        return real(path, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", counting)
        watch.poll()
    assert len(looked_at) < 300
    assert len(os.listdir("/dev/fd")) < 100  # noqa: PTH208
    append(first, stored(2, progress(2)))
    assert any(watch.poll() for _ in range(41))
