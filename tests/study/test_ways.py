"""Two ways on two kinds of data: whom a joint training is compared with, and when a margin destabilises."""

import math

import numpy as np
import pandas as pd
import pytest

from mvssl.refusal import Refusal
from mvssl.study.ways import (
    LOGGED,
    WAYS,
    largest_rise,
    line_of,
    rows_of_another,
    unrest,
    unrest_table,
    ways_table,
    where_it_wavers,
    where_it_works,
)


def logs(errors, probe=0.5, near=90.0):
    "Of trainings that end with these errors and were 5 mm better before."
    return {
        seed: pd.DataFrame(
            dict(
                step=[1, 2, 3],
                mpjpe_mm=[math.nan, mm - 5, mm],
                nearest_mm=[math.nan, near - 10, near],
                subject_probe=[math.nan, probe, probe],
            )
        )
        for seed, mm in enumerate(errors)
    }


def study(**errors):
    "Rows of a study whose groups, with _ for -, end with these errors."
    of_group = {group.replace('_', '-'): values for group, values in errors.items()}
    last = {group: pd.Series(values, dtype=float) for group, values in of_group.items()}
    best = {group: values - 5 for group, values in last.items()}
    return ways_table(dict(last=last, best=best), {g: logs(v) for g, v in of_group.items()}, data='4 people')


def test_each_way_is_compared_with_its_own_control():
    table = study(
        control_100=[100, 102, 101],
        joint_100=[90, 92, 91],
        paper_control=[200, 204, 202],
        paper_joint=[190, 194, 192],
    ).set_index(['stopped', 'group'])
    assert table.loc[('last', 'joint-100'), 'below control'] == pytest.approx(9.9, abs=0.1)
    assert table.loc[('last', 'paper-joint'), 'below control'] == pytest.approx(4.95, abs=0.1)
    assert table.loc[('best', 'paper-joint'), 'below control'] > table.loc[('last', 'paper-joint'), 'below control']
    assert table['below control'].notna().sum() == 4  # controls gain nothing over themselves
    assert table.loc[('last', 'joint-100'), 'nearest_mm'] == 90 and table.loc[('best', 'joint-100'), 'nearest_mm'] == 80
    assert list(LOGGED) == [name for name in table if name in LOGGED]  # what was not logged is there as NaN


@pytest.mark.parametrize(
    'joint, said',
    [
        ([90, 92, 91], 'beats its own control (gain +9.9 %'),
        ([110, 112, 111], 'is worse than its own control (gain -9.9 %'),
        ([90, 115, 98], 'is not told from its own control (gain +'),
    ],
)
def test_a_way_beats_its_control_where_the_interval_says_so(joint, said):
    words = where_it_works(study(control_100=[100, 102, 101], joint_100=joint))
    assert len(words) == 1 and words[0].startswith('ours, 4 people: at equal steps it ' + said)


def test_without_seeds_or_control_nothing_is_told():
    assert 'gain, one seed +10.0 %' in where_it_works(study(control_100=[100], joint_100=[90]))[0]
    assert 'is not told from' in where_it_works(study(control_100=[100], joint_100=[90]))[0]
    assert 'it has no control' in where_it_works(study(joint_100=[90]))[0]
    assert where_it_works(study(control_100=[100])) == []


def test_a_log_without_a_look_at_validation_people():
    assert line_of(pd.DataFrame(dict(step=[1])), 'last').isna().all()


def test_every_joint_training_has_a_control_of_its_way():
    ways = {way for way, arm in WAYS.values() if arm == 'joint'}
    assert ways == {way for way, arm in WAYS.values() if arm == 'control'}


@pytest.mark.parametrize('content', ['', 'a,b\n1,2\n', '\x00'])
def test_a_file_that_is_no_table_of_another_study_is_refused(tmp_path, content):
    (tmp_path / 'paper_way.csv').write_text(content)
    with pytest.raises(Refusal, match='make it again'):
        rows_of_another(tmp_path / 'paper_way.csv')


def test_another_study_that_is_not_there_has_no_rows(tmp_path):
    assert len(rows_of_another(tmp_path / 'paper_way.csv')) == 0


# ---- margins ---------------------------------------------------------------------------------------------------------


def course(scatter=0.0, jump=0.0, seed=0):
    "A log of a loss at half its margin, and of an error that falls but for one look."
    rng, errors = np.random.default_rng(seed), np.linspace(120, 100, 20)
    errors[10] *= 1 + jump
    return pd.DataFrame(
        dict(step=range(20), pairs_loss=0.5 + scatter * rng.normal(size=20), spread=0.9, mpjpe_mm=errors)
    )


def table_of(**settings):
    "Name of a setting -> scatter, jump, alarms, of three seeds."
    found = {
        ('way', name): {seed: unrest(course(scatter, jump, seed), 1.0, alarms) for seed in range(3)}
        for name, (scatter, jump, alarms) in settings.items()
    }
    return unrest_table(found, 'small')


@pytest.mark.parametrize(
    'large, said',
    [
        ((0.01, 0, []), 'at large no less steady than at small'),
        ((0.2, 0, []), 'at large destabilised (its loss scatters more by'),
        ((0.01, 0.5, []), 'at large destabilised (3 of 3 with a jump)'),
        ((0.01, 0, ['collapse', 'identities']), 'at large destabilised (3 of 3 collapsed)'),
    ],
)
def test_a_margin_destabilises_where_it_is_worse_than_the_reference(large, said):
    words = where_it_wavers(table_of(small=(0.01, 0, []), large=large), ['large', 'larger'], 'small')
    assert len(words) == 1 and said in words[0] and words[0].endswith('at small all steady.')


def test_what_happens_at_every_margin_is_not_the_margins_doing():
    words = where_it_wavers(table_of(small=(0.01, 0, ['frozen']), large=(0.01, 0, ['frozen'])), ['large'], 'small')
    assert words == ['way: at large no less steady than at small; at small 3 of 3 frozen at the margin.']
    assert where_it_wavers(table_of(large=(0.01, 0, [])), ['large'], 'small') == []


def test_the_largest_rise_is_from_one_look_to_the_next():
    assert largest_rise([100, math.nan, 120, 130, 90]) == pytest.approx(0.2)
    assert largest_rise([3, 2, 1]) == 0 and math.isnan(largest_rise([1]))
