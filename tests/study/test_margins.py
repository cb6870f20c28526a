"""Comparison of settings against scipy and full enumeration."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mvssl.study.margins import best_setting, compare_settings, rank_test, unsteadiness


def made_up(seed, n, k, gap=0.0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        rng.normal(100, 3, (n, 1)) + rng.normal(0, 1, (n, k)) + gap * np.arange(k), columns=[f'm{i}' for i in range(k)]
    )


@pytest.mark.parametrize('seed', range(3))
def test_rank_test_is_friedmans_enumerated(seed):
    "Every order of three settings in each of three seeds."
    errors = made_up(seed, 3, 3, gap=0.7)
    orders = list(itertools.permutations((1, 2, 3)))
    own = stats.friedmanchisquare(*errors.to_numpy().T).statistic
    all_of_them = [
        stats.friedmanchisquare(*np.array(chosen).T).statistic for chosen in itertools.product(orders, repeat=3)
    ]
    assert rank_test(errors) == pytest.approx(np.mean(np.array(all_of_them) >= own - 1e-9), abs=0.02)


def test_rank_test_nears_scipys_for_many_seeds():
    errors = made_up(3, 25, 4, gap=0.3)
    assert rank_test(errors) == pytest.approx(stats.friedmanchisquare(*errors.to_numpy().T).pvalue, abs=0.02)


def test_rank_test_is_blind_to_what_seeds_share():
    errors = made_up(0, 4, 4, gap=0.5)
    assert rank_test(errors) == rank_test(errors.add([0.0, 50, -30, 1000], axis=0))


def test_differences_are_paired_t_intervals():
    errors = made_up(1, 5, 4, gap=1.0)
    table = compare_settings(errors, 'm1')
    for name in errors:
        interval = stats.ttest_1samp(errors[name], 0).confidence_interval(0.95)
        assert (table.loc[name, 'low'], table.loc[name, 'high']) == pytest.approx(tuple(interval), rel=1e-6)
        if name != 'm1':
            paired = stats.ttest_rel(errors[name], errors['m1']).confidence_interval(0.95)
            assert (table.loc[name, 'difference_low'], table.loc[name, 'difference_high']) == pytest.approx(
                tuple(paired), rel=1e-6
            )
    assert table['rank'].tolist() == stats.rankdata(errors, axis=1).mean(0).tolist()


@pytest.mark.parametrize('gap', [0.0, 2.0, 5.0, 20.0])
def test_best_is_what_bonferroni_says(gap):
    for seed in range(10):
        errors = made_up(seed, 4, 4, gap)
        found = best_setting(errors)
        p = {
            name: stats.ttest_rel(errors[name], errors[found.lowest]).pvalue for name in errors if name != found.lowest
        }
        assert found.lowest == errors.mean().idxmin() and set(found.tied) == {
            name for name, value in p.items() if value > 0.05 / 6
        }
        assert found.is_best == (not found.tied)


def test_unsteadiness_is_that_of_a_regression():
    values = np.random.default_rng(0).normal(size=31).cumsum()
    half = values[-16:]
    fit = stats.linregress(np.arange(16), half)
    left = half - fit.intercept - fit.slope * np.arange(16)
    assert unsteadiness(values) == pytest.approx(math.sqrt((left**2).sum() / 14))
    assert unsteadiness(values * 3 + 7) == pytest.approx(3 * unsteadiness(values))
    assert unsteadiness(values, share=1) == pytest.approx(unsteadiness(values + np.arange(31.0), share=1))
