"""Courses of errors against slow loops and cases that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mvssl.refusal import Refusal
from mvssl.study.courses import errors_by_step, parted_from, turn_of


def table(rows):
    "Errors from a list per step."
    return pd.DataFrame(rows, index=100 * np.arange(1, len(rows) + 1))


def test_only_steps_that_all_have_count():
    logs = {
        0: pd.DataFrame(dict(step=[50, 100, 150, 200], mpjpe_mm=[np.nan, 9, np.nan, 7.0])),
        3: pd.DataFrame(dict(step=[100, 150, 200, 300], mpjpe_mm=[8, 7.5, 6, 5.0])),
    }
    found = errors_by_step(logs)
    assert found.index.tolist() == [100, 200] and found.columns.tolist() == [0, 3]
    assert found.to_numpy().tolist() == [[9, 8], [7, 6]]


def test_a_turn_is_told_from_noise():
    steady = table([[110, 112, 111], [100, 101, 102], [101, 99.5, 102.5]])
    assert turn_of(steady).step == 200 and not turn_of(steady).turns
    rising = table([[110, 112, 111], [100, 101, 102], [110, 111.5, 113]])
    turn = turn_of(rising)
    assert (turn.step, turn.lowest, turn.turns) == (200, 101, True)
    assert turn.rise.mean == pytest.approx(10.5)


def test_one_seed_has_a_turn_and_no_verdict():
    turn = turn_of(table([[110], [100], [120]]))
    assert turn.step == 200 and not turn.turns


def slow_parting(higher, lower):
    "By scipy's paired test, forwards from every step."
    for step in higher.index:
        tests = [
            stats.ttest_rel(higher.loc[later], lower.loc[later]).confidence_interval(0.95).low
            for later in higher.index[higher.index >= step]
        ]
        if all(low > 0 for low in tests):
            return step
    return None


@pytest.mark.parametrize('seed', range(40))
def test_parting_is_that_of_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    gap = np.sort(rng.normal(1, 4, 9))[:, None] * rng.choice([1, 1, 1, -1], (9, 1))
    lower = table(100 + rng.normal(0, 1, (9, 4)))
    higher = lower + gap + rng.normal(0, 1, (9, 4))
    assert parted_from(higher, lower) == slow_parting(higher, lower)


def test_a_difference_that_goes_again_is_no_parting():
    lower = table([[0, 1, 2.0]] * 4)
    assert parted_from(lower + np.array([5, 6, 5])[None], lower) == 100
    comes_and_goes = lower + np.outer([9, 9, 0, 0], [1, 1.1, 0.9])
    assert parted_from(comes_and_goes, lower) is None
    assert parted_from(lower + np.outer([9, 0, 9, 9], [1, 1.1, 0.9]), lower) == 300


@pytest.mark.parametrize(
    'logs, message', [({}, 'at least one'), ({1: pd.DataFrame(dict(step=[1]))}, 'seed 1 has step')]
)
def test_refusals(logs, message):
    with pytest.raises(Refusal, match=message):
        errors_by_step(logs)
    with pytest.raises(Refusal, match='share no step'):
        turn_of(table([[1.0]]).iloc[:0])
