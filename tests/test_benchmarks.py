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
    """The JSON document of a short run of all contests."""
    directory = tmp_path_factory.mktemp("benchmarks")
    done = _run("--short", "--json", str(directory / "run.json"), "--svg", str(directory / "run.svg"))
    assert done.returncode in (0, 1), done.stderr
    assert (directory / "run.svg").read_text(encoding="utf-8").startswith("<svg")
    return msgspec.json.decode((directory / "run.json").read_bytes())


@pytest.mark.alone
@pytest.mark.nightly
def test_the_figures_of_every_entry_are_positive_and_ordered(document: Any) -> None:
    """The minimum, median, quartiles and maximum of each entry are positive and in order."""
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
    """Every target names a contest and an entry that exist."""
    assert [each["name"] for each in document["targets"]] == [each.name for each in TARGETS]


@pytest.mark.alone
@pytest.mark.nightly
def test_nothing_is_slower_by_an_order_of_magnitude(document: Any) -> None:
    """No ratio is five times above the limit of its target: noise is smaller on any machine."""
    for target in document["targets"]:
        if target["baseline"] is not None and target["tolerance"] is not None:
            assert target["min"] < 5 * target["tolerance"] * target["goal"], target["name"]


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
def test_the_median_decides_met_or_missed_and_most_rounds_decide_failed(
    ours: list[float], verdict: str
) -> None:
    """A stall in one round does not fail a target; a target fails when most rounds are too slow."""
    target = Target("ours / theirs", "a contest", "ours", 1.0, "theirs", tolerance=2.0)
    assert outcome_of(target, _measured(ours, [100.0] * 4)).verdict == verdict


def test_a_target_that_is_only_shown_never_fails() -> None:
    """A target with infinite tolerance is missed but never fails."""
    target = Target("ours / theirs", "a contest", "ours", 1.0, "theirs", tolerance=float("inf"))
    assert outcome_of(target, _measured([9_000.0], [1.0])).verdict == "missed"


def test_contests_that_were_not_measured_are_not_judged() -> None:
    """A run of some contests has no outcomes for the targets of the others."""
    assert judge([]) == []


@pytest.mark.parametrize(("goal", "code"), [(2.0, 0), (1.5, 0), (0.5, 1)])
def test_a_run_exits_with_1_when_a_target_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], goal: float, code: int
) -> None:
    """A run exits with 1 when a target fails, and with 0 when it is met or missed within tolerance."""

    async def prepare(_stack: AsyncExitStack, _scale: Scale) -> Rounds:
        async def take(sample: float) -> Samples:
            return (sample,)

        return {"ours": partial(take, 200.0), "theirs": partial(take, 100.0)}

    target = Target("ours / theirs", "a contest", "ours", goal, "theirs")
    monkeypatch.setattr("benchmarks.targets.TARGETS", [target])
    monkeypatch.setattr("benchmarks.__main__.CONTESTS", [Contest("a contest", "ns", prepare)])
    monkeypatch.setattr("sys.argv", ["benchmarks", "--short"])
    assert main() == code
    assert "ours / theirs" in capsys.readouterr().out


def test_a_missing_peer_is_skipped_with_a_message() -> None:
    """A run without a peer measures the others and prints the name of the missing one."""
    peers = ("dust_riven", "psygnal", "pyee", "pymitter", "reactivex")
    blocked = f"import sys; sys.modules.update(dict.fromkeys({peers}))"
    script = (
        f"{blocked}; from benchmarks.peers import publish_to_three; from benchmarks.workload import prebuilt"
    )
    command = [sys.executable, "-c", f"{script}; print(*publish_to_three(prebuilt(1)))"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.split() == ["blinker"]
    for peer in peers:
        assert f"SKIPPED: {peer} is not installed" in done.stderr
