"""Guards of casts: what the rule promises on real captures, bodies of looks against a loop, tables damaged in the ways
that tables are."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvssl.dataset import DatasetError
from mvssl.refusal import Refusal
from mvssl.sources.mocap import Capture, Captures, lowest_mm, measure, read_captures
from mvssl.sources.motion import POINTS, REFERENCE, generate, make_style
from mvssl.sources.roles import (
    Act,
    cast_by_rule,
    categories,
    check_cast,
    deal_takes,
    in_body,
    mirrored,
    perform,
    read_cast,
    role_and_set,
    told,
    write_cast,
)

SHARED = Path(os.environ.get('MVSSL_SHARED_DATA', Path(__file__).parents[3] / 'shared' / 'data'))
CMU = SHARED / 'cmu_mocap'
WHY = 'the CMU subset is not on this machine (set MVSSL_SHARED_DATA)'
NOTEBOOKS = Path(__file__).parents[2] / 'nbs'


def walk(seed=0, action='Walking', proportions=REFERENCE):
    style = make_style(np.random.default_rng(seed))
    return generate(action, style, 60, np.random.default_rng(seed)).points(proportions).astype(float)


def captures(people=10, actions=('walk', 'walk', 'run'), more=()):
    points = np.zeros((30, 21, 3), np.float32)
    said = [(f'p{i}', n, action) for i in range(people) for n, action in enumerate(actions)]
    takes = [Capture(who, action, f'{who}_{n}', points, REFERENCE) for who, n, action in (*said, *more)]
    return Captures('made up', tuple(takes), {}, (), 10, 12, {}, 'anybody')


@pytest.mark.skipif(not (CMU / 'bvh').is_dir(), reason=WHY)
def test_the_committed_cast_is_what_the_rule_makes_of_the_cmu_subset():
    read = read_captures(CMU / 'bvh', index=CMU / 'index.csv')
    cast = cast_by_rule(read)
    assert cast == read_cast(NOTEBOOKS / 'experiments' / 'cmu_cast.csv')
    assert {part.take for part in cast} == {take.sequence for take in read.takes} and len(read.takes) == 56
    table, parts, kind = told(read, cast), deal_takes(read), categories(read)
    assert table['takes'].drop('labelled').sum() == 56, (
        'every take has one role (unlabelled looks do the labelled takes)'
    )
    trained = {kind[take] for take in parts['train']}
    assert all(kind[take] in trained for own in parts.values() for take in own), 'what is tested is trained by somebody'
    assert len({kind[take] for take in parts['other people']}) > 2 < len({kind[take] for take in parts['new takes']})


@pytest.mark.parametrize('seed', range(20))
def test_whatever_the_seed_parts_share_neither_takes_nor_people_they_must_not(seed):
    made_up = captures(more=[('p0', 7, 'cartwheel'), ('p1', 7, 'dance'), ('p2', 7, 'dance')])
    parts = deal_takes(made_up, seed)
    names = [take for own in parts.values() for take in own]
    assert sorted(names) == sorted(take.sequence for take in made_up.takes)
    who = {name: {take.split('_')[0] for take in own} for name, own in parts.items()}
    assert not who['other people'] & (who['train'] | who['validation'] | who['new takes'])
    assert who['new takes'] <= who['train'] and 'p0' in who['train'] and len(who['other people']) == 3
    assert {'p1', 'p2'} & who['train']
    cast = cast_by_rule(made_up, unlabelled=5, validation=2, test=3, seed=seed)
    takes_of = {}
    for part in cast:
        takes_of.setdefault(part.role, set()).add(part.take)
    assert takes_of['labelled'] == takes_of['unlabelled'] == set(parts['train'])
    assert takes_of['test: other people'] == set(parts['other people'])


def test_a_body_is_put_on_bone_by_bone():
    points = walk(action='Sitting')
    own = measure(points)
    other = own.scaled(1.05, arms=0.9, trunk=1.1, shoulders=0.95)
    moved, p = in_body(points, own, other), POINTS.index
    for above, below, bone in (('LKnee', 'LFoot', 'shank'), ('RElbow', 'RWrist', 'forearm'), ('Hip', 'Spine', 'spine')):
        before, after = (some[:, p(below)] - some[:, p(above)] for some in (points, moved))
        np.testing.assert_allclose(after, before * getattr(other, bone) / getattr(own, bone), atol=0.1)
    assert abs(lowest_mm(moved, other) - other.leg / own.leg * lowest_mm(points, own)) < 0.1
    np.testing.assert_allclose(measure(mirrored(moved)).upper_arm, measure(moved).upper_arm, rtol=1e-5)


def test_looks_do_the_takes_that_the_cast_gives_them():
    points = walk().astype(np.float32)
    read = replace(captures(), takes=(Capture('p', 'walk', 'p_1', points, measure(points)),))
    bodies = dict(a=measure(points), b=measure(points).scaled(1.1))
    done = perform(read, [Act('a', 'p_1'), Act('b', 'p_1', True)], bodies)
    assert [(take.subject, take.sequence) for take in done.takes] == [('a', 'p_1'), ('b', 'p_1 mirrored')]
    assert all(take.proportions == bodies[take.subject] for take in done.takes)
    twice = replace(read, takes=read.takes * 2)
    with pytest.raises(Refusal, match='no two may have one name'):
        perform(twice, [Act('a', 'p_1')], bodies)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('look\nanna\n', 'columns'),
        ('look,take\n,walk\n', 'line 2: look or take is empty'),
        ('look,take,mirrored\nanna,walk,maybe\n', 'line 2, mirrored'),
        ('look,take,role\nanna,walk,tset\n', "got 'tset'"),
        ('look,take,role\nanna,walk,validation: new\n', "'test: NAME'"),
        ('', 'empty'),
    ],
)
def test_a_damaged_table_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / 'cast.csv').write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_cast(tmp_path / 'cast.csv')


def test_a_table_from_a_spreadsheet_is_read(tmp_path):
    (tmp_path / 'cast.csv').write_bytes('\ufefftake;look;role;mirrored\r\nwalk.BVH;Anna;Test: Gehen;yes\r\n'.encode())
    assert read_cast(tmp_path / 'cast.csv') == (Act('Anna', 'walk', True, 'test: gehen'),)
    cast = cast_by_rule(captures())
    write_cast(tmp_path / 'rule.csv', cast)
    assert read_cast(tmp_path / 'rule.csv') == cast


def test_a_cast_of_takes_that_are_not_there_is_refused():
    with pytest.raises(Refusal, match='got nosuch; there are p_1'):
        check_cast([Act('a', 'nosuch')], ['p_1'])
    assert role_and_set('test:new takes') == ('test', 'new takes')
    with pytest.raises(Refusal, match='a role must be one of'):
        role_and_set('labelled: mine')
