"""Guards of mvssl.study.claims: the rules on a grid of made-up numbers, against verdicts that are found another way."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from mvssl.evaluation import NO_ESTIMATE, Estimate
from mvssl.runs import CLAIM, IN_SHORT, VERDICTS, open_run, save_table
from mvssl.study.claims import (
    Claim,
    Verdict,
    interval_text,
    verdict_on_map,
    verdict_on_margin,
    verdict_on_negatives,
    verdict_on_retrieval,
    verdict_on_stability,
    verdict_on_video,
)
from mvssl.study.margins import best_setting, compare_settings

ABOVE, AROUND, BELOW = (Estimate(mean, mean - 1, mean + 1, 3) for mean in (5.0, 0.5, -5.0))
ANY = (ABOVE, AROUND, BELOW, NO_ESTIMATE)


@pytest.mark.parametrize(
    'estimate, how, text',
    [
        ((1.25, 1.0, 1.5), {}, '1.2 (1.0 to 1.5)'),
        ((1.25, 1.0, 1.5), dict(digits=2, unit=' mm'), '1.25 mm (1.00 to 1.50)'),
        ((1.25, 1.0, 1.5), dict(plus_minus=True, unit=' mm'), '1.2 mm ± 0.2'),
        ((1.0, 0.0, 1.5), dict(plus_minus=True), '1.0 (0.0 to 1.5)'),
        ((1.0, math.nan, math.nan), dict(unit=' %'), '1.0 %'),
        ((-0.01, -0.02, 0.02), {}, '0.0 (0.0 to 0.0)'),
        ((3.0, -1.0, 7.0), dict(sign='+', digits=0), '+3 (-1 to +7)'),
        ((math.nan, math.nan, math.nan), {}, ''),
        (NO_ESTIMATE, dict(unknown='unknown'), 'unknown'),
        (pd.Series([1.0, 0.5, 1.5], ['mean', 'low', 'high']), {}, '1.0 (0.5 to 1.5)'),
    ],
)
def test_an_interval_in_words(estimate, how, text):
    assert interval_text(estimate, **how) == text


def test_an_interval_in_words_holds_the_numbers():
    for mean, half in np.random.default_rng(0).normal(0, 20, (200, 2)):
        low, high = sorted((mean - half, mean + half))
        first, _, rest = interval_text((mean, low, high), digits=3).partition(' (')
        assert np.allclose([float(first), *map(float, rest[:-1].split(' to '))], [mean, low, high], atol=5.1e-4)


def test_a_claim_goes_into_a_sidecar(tmp_path):
    claim = Claim('title', 'paper', 'ours', *Verdict('partly', 'why'))
    assert tuple(claim._asdict()) == CLAIM + IN_SHORT
    assert claim._repr_markdown_() == '**title: partly.** Why. ours.'
    with open_run(tmp_path / 'run', {}) as run:
        save_table(pd.DataFrame({'n': [1]}), 'x', run, claim=claim._asdict())


@pytest.mark.parametrize('chunks, beta', list(itertools.product(ANY, repeat=2)))
def test_negatives(chunks, beta):
    "Both, one or none is above zero."
    n_above = (chunks is ABOVE) + (beta is ABOVE)
    verdict, why = verdict_on_negatives(chunks, beta, 3)
    assert verdict == ('not', 'partly', 'replicated')[n_above] and why
    assert verdict_on_negatives(chunks, beta, 2) == ('not tested', '2 seeds, and a verdict takes 3')


@pytest.mark.parametrize(
    'last, best',
    list(itertools.product(itertools.product((30.0, 10.0, 1.0), repeat=2), itertools.product((30.0, 1.0), repeat=2))),
)
def test_video_is_judged_by_the_less_favourable_way(last, best):
    def gains(means):
        return tuple(Estimate(mean, mean - 5, mean + 5, 3) for mean in means) + (NO_ESTIMATE,)

    alone = [verdict_on_video({'last': gains(means)})[1].verdict for means in (last, best)]
    worst, (verdict, why) = verdict_on_video(dict(last=gains(last), best=gains(best)))
    assert verdict == max(alone, key=VERDICTS.index)
    assert why.startswith('at equal steps: ' if worst == 'last' else 'at the best validation: ')
    assert verdict == ('not' if 1 in (*last, *best) else 'partly' if 10 in last else 'replicated')


def test_video_takes_three_seeds():
    gains = (ABOVE._replace(n=2),) * 3
    assert verdict_on_video(dict(last=gains, best=gains))[1] == (
        'not tested',
        '2 seeds of all three arms, and a verdict takes 3',
    )


@pytest.mark.parametrize('shift, verdict', [(-30, 'replicated'), (-0.01, 'partly'), (+0.01, 'not'), (+30, 'not')])
def test_margin_on_errors(shift, verdict):
    "From errors on: the paper's setting is moved against three others that scatter about 100 mm."
    errors = pd.DataFrame(np.random.default_rng(1).normal(0, 0.5, (5, 4)), columns=['paper', 'a', 'b', 'c'])
    errors = errors - errors.mean() + 100 + [shift, 0, 0, 0]
    found = verdict_on_margin(compare_settings(errors, 'paper'), best_setting(errors), 'paper', len(errors))
    assert found.verdict == verdict
    if shift == 30:
        assert found.why.endswith("better than the paper's beyond chance: a, b, c")
    assert (
        verdict_on_margin(compare_settings(errors, 'paper'), best_setting(errors), 'paper', 1).verdict == 'not tested'
    )


@pytest.mark.parametrize('low', list(itertools.product((-1.0, 1.0), repeat=2)))
def test_stability(low):
    wavering = pd.DataFrame(dict(difference_low=[math.nan, *low]), index=['paper', 'a', 'b'])
    verdict, why = verdict_on_stability(wavering, ['a', 'b'], 3)
    assert verdict == {2: 'replicated', 1: 'partly', 0: 'not'}[sum(value > 0 for value in low)]
    assert (
        all((f' {name}' in why.rpartition(' at')[2]) == (value > 0) for name, value in zip('ab', low))
        or 'not' == verdict
    )
    assert verdict_on_stability(wavering, [], 3).why == 'no larger margin was trained'


CASES = [('studio', 'others'), ('studio', 'same'), ('stage', 'others'), ('stage', 'same')]


def test_retrieval_by_hand_on_every_combination():
    "Sixteen times eight ways: which case fails against whom."
    for failing, rivals in itertools.product(
        itertools.product((False, True), repeat=4),
        itertools.chain.from_iterable(
            itertools.combinations(('chance', 'untrained', 'supervised'), n) for n in range(4)
        ),
    ):
        gains = {
            case: {
                rival: AROUND if fails and rival in rivals else ABOVE for rival in ('chance', 'untrained', 'supervised')
            }
            for case, fails in zip(CASES, failing)
        }
        is_lost = any(failing) and bool(rivals)
        sound = {name for name in ('studio', 'stage')} - {
            case[0] for case, fails in zip(CASES, failing) if fails and {'chance', 'untrained'} & set(rivals)
        }
        verdict, why = verdict_on_retrieval(gains, 3)
        assert verdict == ('replicated' if not is_lost else 'partly' if sound else 'not')
        if is_lost:
            assert why.count('not nearer than') == sum(failing)
    assert (
        verdict_on_retrieval(gains, 2).verdict
        == verdict_on_retrieval(gains, 3, has_joint=False).verdict
        == 'not tested'
    )


@pytest.mark.parametrize('gain, alike, part', list(itertools.product(ANY, ANY, (60.0, 50.5, 10.0))))
def test_map(gain, alike, part):
    of_map = {'other instants': Estimate(part, part - 1, part + 1, 3)}
    gains = {('other instants', 'chance'): ABOVE, ('other instants', 'untrained'): gain}
    held = (gain is ABOVE and alike is ABOVE) + (part == 60)
    verdict, why = verdict_on_map(gains, alike, of_map, 3)
    assert verdict == ('not', 'partly', 'replicated')[held]
    assert ('come mostly from the map' in why) == (part == 60)
    for changes in (dict(n_seeds=2), dict(has_poses=False), dict(has_test=False)):
        assert verdict_on_map(gains, alike, of_map, **dict(n_seeds=3) | changes).verdict == 'not tested'
