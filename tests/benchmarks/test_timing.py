"""Timing in turn: warm-up, order, stopping, medians; and peak memory."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import interleave, peak_extra_bytes


def _recorder():
    calls = []
    methods = {name: lambda name=name: calls.append(name) or f"{name}{len(calls)}" for name in "ab"}
    return calls, methods


def test_methods_are_warmed_up_and_take_turns():
    calls, methods = _recorder()
    timings = interleave(methods, seconds=0.0, least=3)
    assert calls[:4] == ["a", "a", "b", "b"]
    assert calls[4:] == ["a", "b"] * 3
    assert {name: t.calls for name, t in timings.items()} == {"a": 3, "b": 3}
    assert (timings["a"].result, timings["b"].result) == ("a1", "b3")


def test_at_most_so_many_rounds():
    calls, methods = _recorder()
    timings = interleave(methods, seconds=60.0, most=5)
    assert timings["a"].calls == timings["b"].calls == 5
    assert len(calls) == 2 * (2 + 5)


def test_the_time_limit_stops_after_the_fewest_rounds():
    timings = interleave({"sleep": lambda: time.sleep(0.02)}, seconds=0.01, least=2)
    assert timings["sleep"].calls == 2
    longer = interleave({"sleep": lambda: time.sleep(0.02)}, seconds=0.15, least=2)
    assert 2 <= longer["sleep"].calls <= 8


def test_times_are_at_least_what_was_slept():
    slept = 0.02
    taken = interleave({"sleep": lambda: time.sleep(slept)}, seconds=0.0)["sleep"]
    assert taken.first >= slept
    assert taken.median >= slept
    assert taken.spread >= 0


def test_the_first_call_is_kept_apart():
    pending = [0.2]
    taken = interleave(
        {"slow start": lambda: time.sleep(pending.pop() if pending else 0)}, seconds=0.0
    )["slow start"]
    assert taken.first >= 0.2
    assert taken.median < 0.1


def test_the_slower_method_is_slower():
    timings = interleave(
        {"fast": lambda: time.sleep(0.001), "slow": lambda: time.sleep(0.03)}, seconds=0.0, least=5
    )
    assert timings["fast"].median < timings["slow"].median


def test_median_and_spread():
    taken = [1.0, 5.0, 2.0, 3.0]
    summary = timing._summary(9.0, taken, "result")
    assert (summary.first, summary.median, summary.calls) == (9.0, 2.5, 4)
    assert summary.spread == pytest.approx(1.0 / 2)
    assert summary.result == "result"


def test_results_are_waited_for():
    x = jnp.ones((700, 700))
    method = lambda: x @ x @ x
    start = time.perf_counter()
    taken = interleave({"product": method}, seconds=0.0)["product"]
    assert 0 < taken.median < time.perf_counter() - start
    assert float(taken.result[0, 0]) == 700.0**2


def test_peak_memory_sees_a_large_array():
    megabytes = 200
    peak = peak_extra_bytes(lambda: np.ones(megabytes * 2**20, np.uint8).sum())
    nothing = peak_extra_bytes(lambda: None)
    if peak is None:
        assert nothing is None
        pytest.skip("this system does not tell")
    assert 0.9 * megabytes * 2**20 < peak < 2 * megabytes * 2**20
    assert nothing < 20 * 2**20


def test_peak_memory_is_none_where_the_system_does_not_tell(monkeypatch):
    def missing(_):
        raise FileNotFoundError

    monkeypatch.setattr(timing, "_status_kilobytes", missing)
    assert peak_extra_bytes(lambda: None) is None
