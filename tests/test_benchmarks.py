"""The benchmarks: what they write down, and when a run fails.

`make bench-short`, which CI runs, is the quick test that nothing has become grossly slower.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.__main__ import main
from benchmarks.rounds import Contest, Measured, Rounds, Samples, Scale
from benchmarks.targets import TARGETS, Target, judge, outcome_of

PROJECT = Path(__file__).parent.parent


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, check=False, text=True, timeout=120)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The JSON document of a short run of everything."""
    directory = tmp_path_factory.mktemp("benchmarks")
    done = _run("--short", "--json", str(directory / "run.json"), "--svg", str(directory / "run.svg"))
    assert done.returncode in (0, 1), done.stderr
    assert (directory / "run.svg").read_text(encoding="utf-8").startswith("<svg")
    return msgspec.json.decode((directory / "run.json").read_bytes())


@pytest.mark.alone
@pytest.mark.nightly
def test_every_entry_has_figures_that_make_sense(document: Any) -> None:
    """Each entry's minimum, quartiles and maximum are positive and in order."""
    assert len(document["contests"]) >= 15
    for contest in document["contests"]:
        for name, figures in contest["entries"].items():
            ordered = [figures[each] for each in ("min", "median", "max")]
            assert ordered[0] > 0, (contest["name"], name)
            assert ordered == sorted(ordered), (contest["name"], name)
            assert figures["q1"] <= figures["q3"]
            assert figures["samples"] > 0


@pytest.mark.alone
@pytest.mark.nightly
def test_every_target_was_measured(document: Any) -> None:
    """No target names a contest or an entry that does not exist."""
    assert [each["what"] for each in document["targets"]] == [each.what for each in TARGETS]


@pytest.mark.alone
@pytest.mark.nightly
def test_nothing_is_slower_by_an_order_of_magnitude(document: Any) -> None:
    """No ratio is five times the limit of a run, which noise does not explain on any machine."""
    for target in document["targets"]:
        if target["against"] is not None and target["lenience"] is not None:
            assert target["min"] < 5 * target["lenience"] * target["reach"], target["what"]


def _measured(ours: list[float], theirs: list[float]) -> Measured:
    def rounds(values: list[float]) -> list[Samples]:
        return [(value,) for value in values]

    return Measured("a contest", "ns", {"ours": rounds(ours), "theirs": rounds(theirs)})


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([90.0, 100.0, 110.0, 90.0], "met"),
        ([150.0, 160.0, 150.0, 900.0], "missed"),
        ([250.0, 260.0, 250.0, 900.0], "FAILED"),
    ],
)
def test_a_target_is_judged_by_the_median_and_failed_by_most_rounds(ours: list[float], verdict: str) -> None:
    """A target is judged by the median: a stall in one round fails nothing, slow rounds do."""
    target = Target("ours beside theirs", "a contest", "ours", 1.0, "theirs", lenience=2.0)
    assert outcome_of(target, _measured(ours, [100.0] * 4)).verdict == verdict


def test_a_target_that_is_only_shown_fails_nothing() -> None:
    """A target with infinite lenience fails nothing, however far it is missed."""
    target = Target("ours beside theirs", "a contest", "ours", 1.0, "theirs", lenience=float("inf"))
    assert outcome_of(target, _measured([9_000.0], [1.0])).verdict == "missed"


def test_only_measured_targets_are_judged() -> None:
    """A run of some contests does not judge the targets of others."""
    assert judge([]) == []


@pytest.mark.parametrize(("reach", "code"), [(2.0, 0), (1.5, 0), (0.5, 1)])
def test_a_run_exits_1_when_a_target_is_grossly_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reach: float, code: int
) -> None:
    """A run exits with 1 if a target is missed by more than twice, otherwise with 0."""

    async def prepare(_stack: AsyncExitStack, _scale: Scale) -> Rounds:
        async def take(sample: float) -> Samples:
            return (sample,)

        return {"ours": partial(take, 200.0), "theirs": partial(take, 100.0)}

    target = Target("ours beside theirs", "a contest", "ours", reach, "theirs")
    monkeypatch.setattr("benchmarks.targets.TARGETS", [target])
    monkeypatch.setattr("benchmarks.__main__.CONTESTS", [Contest("a contest", "ns", prepare)])
    monkeypatch.setattr("sys.argv", ["benchmarks", "--short"])
    assert main() == code
    assert "ours beside theirs" in capsys.readouterr().out


def test_a_peer_that_is_absent_is_skipped_loudly() -> None:
    """Without a peer the rest is measured, and the run prints which peer is missing."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(('pyee', 'psygnal', 'pymitter')))"
    script = (
        f"{blocked}; from benchmarks.peers import publish_to_three; from benchmarks.silent import prebuilt"
    )
    command = [sys.executable, "-c", f"{script}; print(*publish_to_three(prebuilt(1)))"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.split() == ["blinker"]
    for peer in ("pyee", "psygnal", "pymitter"):
        assert f"SKIPPED: {peer} is not installed" in done.stderr
