"""Guards of mvssl.show.plots: what is drawn are the numbers that were given, whatever there is of them."""

import io
import itertools

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402

from mvssl.evaluation import over_seeds, seeds_ci  # noqa: E402
from mvssl.show.plots import (  # noqa: E402
    ARM_COLOURS,
    ARM_LOOKS,
    ARM_NAMES,
    PAPER_STYLE,
    RULES,
    SERIES,
    found_figure,
    map_figure,
    over_steps,
    rank_figure,
    retrieval_figure,
    search_figure,
    selection_of_negatives,
    semi_supervision,
    settings_figure,
    training_course,
    use_style,
    ways_figure,
)

RNG = np.random.default_rng(0)
PARTS = ['labelled', 'validation', 'test']


@pytest.fixture(autouse=True)
def figures_are_closed():
    yield
    plt.close('all')


def drawn(fig):
    "The bytes of a PNG: drawing is where most mistakes show."
    data = io.BytesIO()
    fig.savefig(data, format='png', dpi=50)
    return data.getvalue()


def arms_of(arms, seeds, column, values):
    rows = [
        (arm, value, 100 - 10 * at + RNG.normal(0, 2))
        for at, arm in enumerate(arms)
        for value in values
        for _ in range(seeds)
    ]
    return pd.DataFrame(rows, columns=['arm', column, 'mm'])


def given(arms=('supervised', 'control', 'joint'), seeds=3, images=(480, 2400, 24000), people=('S9', 'S11', 'T1')):
    return dict(
        curves=arms_of(arms, seeds, 'images', images),
        parts=PARTS,
        of_parts=arms_of(arms, seeds, 'part', PARTS),
        of_subjects=pd.DataFrame({arm: RNG.uniform(80, 120, len(people)) for arm in arms}, list(people)),
        interval=seeds_ci,
    )


def test_the_style_is_given_back():
    before = {key: plt.rcParams[key] for key in PAPER_STYLE}
    with use_style():
        assert plt.rcParams['font.size'] == 7 and plt.rcParams['pdf.fonttype'] == 42
    assert {key: plt.rcParams[key] for key in PAPER_STYLE} == before


def test_arms_look_different():
    looks = [look[:2] for look in ARM_LOOKS.values()]
    assert len(set(looks)) == len(looks) and set(ARM_NAMES) == set(ARM_COLOURS)


def test_curves_are_means_with_students_interval():
    asked = given()
    with use_style():
        ax = semi_supervision(**asked).axes[0]
    for arm in ('supervised', 'control', 'joint'):
        of_arm = asked['curves'][asked['curves']['arm'] == arm]
        expected = of_arm.groupby('images')['mm'].apply(over_seeds)
        line = next(line for line in ax.lines if line.get_label() == ARM_NAMES[arm])
        np.testing.assert_allclose(line.get_ydata(), [one.mean for one in expected])
        ends = [
            np.sort(segment[:, 1])
            for bars in ax.collections
            if np.allclose(bars.get_color()[0], matplotlib.colors.to_rgba(ARM_COLOURS[arm]))
            for segment in bars.get_segments()
        ]
        np.testing.assert_allclose(ends, [[one.low, one.high] for one in expected])


def test_parts_are_means_with_students_interval():
    asked = given(arms=('joint',))
    with use_style():
        ax = semi_supervision(**asked).axes[1]
    expected = asked['of_parts'].groupby('part', sort=False)['mm'].apply(over_seeds)
    heights = np.concatenate([np.ravel(line.get_ydata()) for line in ax.lines])
    for one in expected:
        for value in one[:3]:
            assert np.nanmin(np.abs(heights - value)) < 1e-9


@pytest.mark.parametrize(
    'seeds, images, people', list(itertools.product((1, 2), ((480,), (480, 24000)), (('S9',), tuple('abcdefghij'))))
)
def test_whatever_there_is(seeds, images, people):
    with use_style():
        fig = semi_supervision(**given(seeds=seeds, images=images, people=people))
        assert len(fig.axes) == 3 and drawn(fig)


@pytest.mark.parametrize(
    'arms', [('supervised',), ('joint',), ('control', 'joint'), ('untrained', 'metric', 'supervised-all')]
)
def test_any_arms(arms):
    asked = given(arms=arms)
    with use_style():
        fig = semi_supervision(**asked, bound=(74, 70, 78), best=asked['curves'])
    assert drawn(fig)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        *map(ARM_NAMES.get, arms),
        'at its best validation',
    ]


def test_subjects_are_ordered_by_their_gain():
    asked = given()
    asked['of_subjects'] = pd.DataFrame(dict(supervised=[100.0, 100, 100], joint=[90, 70, 110]), index=['a', 'b', 'c'])
    with use_style():
        ax = semi_supervision(**asked).axes[2]
    assert [label.get_text() for label in ax.get_yticklabels()] == ['c', 'a', 'b']  # from below
    assert [text.get_text() for text in ax.texts] == ['+10 %', '\N{MINUS SIGN}10 %', '\N{MINUS SIGN}30 %', 'change']


def negatives(n=400):
    distances = {name: RNG.lognormal(4, 0.7, n) for name in (*RULES, 'random candidate')}
    share = [0.02, 0.04, 0.03]
    shares = {name: ([0, 300, 600], share, [0.01] * 3, [0.1] * 3) for name in RULES}
    over_beta = {name: ([0, 0.5, 1], share, [0.01] * 3, [0.3] * 3) for name in ('with chunks', 'without chunks')}
    pictures = np.full((2, 3, 8, 8, 3), 200, np.uint8)
    return dict(
        distances={'a': distances, 'b': distances},
        shares={'a': shares, 'b': shares},
        examples={name: (pictures, [12, 40]) for name in RULES},
        columns=['first', 'median'],
        same_mm=(17, 50),
        over_beta={'a': over_beta, 'b': {name: (x, y, low, [0.6] * 3) for name, (x, y, low, _) in over_beta.items()}},
        beta=0.3,
    )


def test_distributions_are_shares_of_pairs():
    asked = negatives()
    ax = selection_of_negatives(**asked).axes[0]
    for line, values in zip(ax.lines, asked['distances']['a'].values()):
        x, y = (data[1:] for data in line.get_data())  # seaborn begins at minus infinity
        np.testing.assert_allclose(x, np.sort(values))
        np.testing.assert_allclose(y, [(values <= at * (1 + 1e-9)).mean() for at in x])


def test_no_band_is_cut_off():
    "Panels of a row share their axis: it reaches to the highest of all."
    fig = selection_of_negatives(**negatives())
    assert fig.axes[4].get_ylim()[1] >= 60 and fig.axes[4].get_ylim()[0] == 0
    assert drawn(fig)


def test_bands_reach_from_the_lowest_to_the_highest():
    steps, values = np.arange(0, 60, 20), RNG.normal(size=(4, 3))
    ax = over_steps({'made up': {'one': (steps, values)}}, {'one': SERIES[0]}).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_data(), [steps, values.mean(0)])
    outline = ax.collections[0].get_paths()[0].vertices
    for x, low, high in zip(steps, values.min(0), values.max(0)):
        at = outline[outline[:, 0] == x, 1]
        np.testing.assert_allclose([at.min(), at.max()], [low, high])


def test_one_training_has_no_band():
    fig = over_steps({'made up': {'one': (np.arange(5), np.zeros((1, 5)))}}, {'one': SERIES[0]}, columns=3)
    assert not any(
        len(path.vertices) and np.ptp(path.vertices[:, 1])
        for bands in fig.axes[0].collections
        for path in bands.get_paths()
    )
    assert drawn(fig)


def test_settings_are_told_by_colour_and_number():
    table = pd.DataFrame({'ours': [90.0, 99], 'paper': [120.0, 110]}, index=['a', 'b'])
    ax = settings_figure(table).axes[0]
    assert [text.get_text() for text in ax.texts] == ['90.0', '120.0', '99.0', '110.0']
    np.testing.assert_allclose(np.ravel(ax.collections[0].get_array()), [0, 100 * 10 / 110, 10, 0])
    assert [(patch.get_x(), patch.get_y()) for patch in ax.patches] == [(0, 0), (1, 1)]


def test_ways_have_a_row_each_and_arms_a_mark():
    rows = pd.DataFrame(
        dict(
            label=['ours', 'ours', "the paper's", 'ours'],
            arm=['control', 'joint', 'joint', 'joint'],
            stopped=['last', 'last', 'last', 'best'],
            mm=[100.0, 90, 110, 80],
        )
    ).assign(**{'mm low': 70, 'mm high': [130, 120, np.nan, 100]}, near=50, chance=[60, 60, 70, 60])
    first, second = ways_figure(rows, {'a': ('mm', ''), 'b': ('near', 'chance')}).axes
    assert [text.get_text() for text in first.get_yticklabels()] == ['ours', "the paper's"]
    assert first.yaxis_inverted() and [line.get_xdata()[0] for line in first.lines[:-1]] == [100, 90, 110, 80]
    assert len(first.collections) == 3 and len(second.collections) == 4  # intervals at equal steps; marks of chance
    with pytest.raises(ValueError, match='rows must have the columns .* got no near'):
        ways_figure(rows.drop(columns='near'), {'b': ('near', '')})


def test_ranks_are_drawn_as_they_are():
    ranks = RNG.permuted(np.tile(np.linspace(0, 1, 7), (5, 1)), axis=1)
    ax = rank_figure({'a': ranks, 'b': ranks}, [2, 4], 'right', 'left').axes[0]
    np.testing.assert_allclose(np.ravel(ax.collections[0].get_array()), np.ravel(ranks))
    assert ax.yaxis_inverted() and len(ax.lines) == 4


def test_the_chosen_are_ringed_within_their_phase():
    errors, levers = [90.0, 80, 70], ['rate', 'rate', 'size']
    with use_style():
        ax = search_figure(errors, levers, ['joint'] * 3, [False, True, False], phases=['A', 'A', 'B']).axes[0]
    ring = next(line for line in ax.lines if line.get_markersize() == 7)
    assert ring.get_xdata().tolist() == [80]
    assert ax.collections[0].get_segments()[0][:, 1].tolist() == [-0.5, 0.5]


@pytest.mark.parametrize('n', [1, 2, 5])
def test_found_pictures_of_any_number(n):
    picture = np.zeros((8, 8, 3), np.uint8)
    fig = found_figure([[(picture, ['query'])] + [(picture, ['S1'])] * n, [(picture, ['query'])]], 'synthetic people')
    assert len(fig.axes) == 2 * (n + 1) and sum(len(ax.images) for ax in fig.axes) == n + 2 and drawn(fig)


def test_pictures_of_unequal_blocks():
    def block(Q, data):
        found = np.zeros((Q, 2, 8, 8, 3), np.uint8)
        return dict(
            data=data,
            title='t',
            queries=found[:, 0],
            names=['q'] * Q,
            found=found,
            distance_mm=np.full((Q, 2), np.nan),
            notes=[['3 apart', 'other take']] * Q,
            best_mm=np.full(Q, np.nan),
            chance_mm=np.inf,
        )

    with use_style():
        fig = retrieval_figure([block(1, 'a'), block(3, 'b')])
    ax = fig.axes[0]
    assert len(ax.images) == 4 * 3 and [t.get_text() for t in ax.texts].count('3 apart') == 4
    sides = {round(float(np.ptp(image.get_extent()[:2])), 9) for image in ax.images}
    assert len(sides) == 1 and max(image.get_extent()[1] for image in ax.images) <= fig.get_size_inches()[0]


def test_a_map_without_windows():
    with use_style():
        fig = map_figure(RNG.normal(size=(30, 2)), [0, 1], np.zeros((2, 8, 8, 3)), 0.05, [], 'all')
    assert len(fig.axes) == 2 and fig.axes[0].texts[0].get_text() == 'all' and drawn(fig)


def test_a_course_shows_what_was_logged():
    step = np.arange(10.0)
    fig = training_course(
        dict(step=step, pose_loss=step, mpjpe_mm=np.where(step % 5 == 0, 90 - step, np.nan), other='x')
    )
    assert [ax.get_ylabel() for ax in fig.axes] == ['loss', 'held-out error, mm']
    np.testing.assert_allclose(fig.axes[1].lines[0].get_data(), [[0, 5], [90, 85]])


def test_budgets_stand_evenly_apart_however_near_their_numbers_are():
    "One person more who was hardly filmed: names and numbers would lie on each other on any axis of numbers."
    asked = given(images=(324, 16200, 16584))
    with use_style():
        fig = semi_supervision(**asked, budgets={16200: 'all of S1', 16584: 'all of S1 S5'})
        fig.canvas.draw()
    texts = [text for text in fig.axes[0].get_xticklabels()]
    assert [text.get_text() for text in texts] == ['324', 'all of S1\n16,200', 'all of S1 S5\n16,584']
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(next_one) for one, next_one in zip(boxes, boxes[1:]))
    plt.close(fig)
