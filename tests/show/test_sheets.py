"""Guards of the sheets: every picture, square, crop and joint is drawn, at its place, and nothing covers another."""

import itertools

import numpy as np
import pytest
from matplotlib import pyplot as plt

from mvssl.refusal import Refusal
from mvssl.show.sheets import box_sheet, check_sheet, joint_sheet, save_sheet
from mvssl.skeleton import BONES, LEFT, RIGHT


def test_sheet_shows_every_picture_square_and_crop():
    pictures = [[np.zeros((40, 30, 3), np.uint8), np.zeros((30, 60, 3), np.uint8)]] * 3
    boxes = np.tile([5.0, 5, 25, 25], (3, 2, 1))
    boxes[1, 1] = np.nan
    crops = [[np.zeros((9, 9, 3), np.uint8)] * 2 for _ in range(3)]
    crops[1][1] = None
    fig = box_sheet(pictures, boxes, crops, ['0 s\nwalk', '1 s', '2 s'], ['a', 'b'])
    (ax,) = fig.axes
    assert (
        len(ax.images) == 6 + 5
        and len(ax.patches) == 5
        and [text.get_text() for text in ax.texts] == ['0 s\nwalk', '1 s', '2 s', 'a', 'b']
    )
    extents = sorted(tuple(image.get_extent()) for image in ax.images)
    for (l0, r0, b0, t0), (l1, r1, b1, t1) in itertools.combinations(extents, 2):
        assert r0 <= l1 + 1e-9 or r1 <= l0 + 1e-9 or b0 <= t1 + 1e-9 or b1 <= t0 + 1e-9
    plt.close(fig)
    with pytest.raises(ValueError, match=r'boxes must have shape \(3, 2, 4\)'):
        box_sheet(pictures, boxes[:2], crops, ['a'] * 3, ['b'] * 2)
    with pytest.raises(ValueError, match='pictures must be 3 rows of 2'):
        box_sheet(pictures[:2], boxes, crops, ['a'] * 3, ['b'] * 2)


def test_joints_are_drawn_over_their_crops_and_sides_differ():
    crops = np.zeros((2, 3, 16, 16, 3), np.uint8)
    joints = np.random.default_rng(0).uniform(0, 15, (2, 3, 17, 2))
    joints[1, 2] = np.nan
    fig = joint_sheet(crops, joints, ['0 s', '1 s'], ['a', 'b', 'c'])
    assert [ax.get_title() for ax in fig.axes[:3]] == ['a', 'b', 'c'] and len(fig.axes) == 6
    for ax, (row, view) in zip(fig.axes, np.ndindex(2, 3)):
        assert len(ax.images) == 1 and len(ax.lines) == len(BONES)
        for line, bone in zip(ax.lines, BONES):
            np.testing.assert_array_equal(np.transpose(line.get_data()), joints[row, view][list(bone)])
    colours = {
        side: {line.get_color() for line, (_, b) in zip(fig.axes[0].lines, BONES) if b in side}
        for side in (LEFT, RIGHT)
    }
    assert all(len(own) == 1 for own in colours.values()) and not set.intersection(*colours.values())
    plt.close(fig)
    with pytest.raises(Refusal, match='crops and joints must be 2 x 3'):
        joint_sheet(crops, joints[:1], ['0 s', '1 s'], ['a', 'b', 'c'])


@pytest.mark.parametrize('name, said', [('a.txt', 'no kind of picture'), ('away/a.png', 'there is no folder')])
def test_a_sheet_that_cannot_be_written_is_refused_before(tmp_path, name, said):
    with pytest.raises(Refusal, match=said):
        check_sheet(tmp_path / name, tmp_path / 'store')
    check_sheet(tmp_path / 'a.png', tmp_path / 'store')
    assert not list(tmp_path.iterdir())


def test_a_sheet_is_saved_or_refused_and_closed(tmp_path):
    before, fig = set(plt.get_fignums()), plt.figure()
    save_sheet(fig, tmp_path / 'a.png')
    assert (tmp_path / 'a.png').stat().st_size and fig.number not in plt.get_fignums()
    with pytest.raises(Refusal, match='--sheet: cannot be written'):
        save_sheet(plt.figure(), tmp_path / 'away' / 'a.png')
    assert not set(plt.get_fignums()) - before
