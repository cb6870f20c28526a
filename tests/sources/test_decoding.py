"""Guards of decoding: the right frame out of any file, upright, in the colours that FFmpeg gives."""

import numpy as np
import pytest
from small_films import N, RATE, SIZE, numbers_in, shoot

import mvssl.sources.decoding as decoding
from mvssl.sources.decoding import decode, probe


FILES = [
    ('a.mp4', 'libx264', {}),
    ('b.mkv', 'libx264', {}),
    ('c.mov', 'libx265', dict(options={'crf': '8', 'x265-params': 'log-level=none'})),
    ('d.webm', 'libvpx-vp9', {}),
    ('e.avi', 'mpeg4', {}),
    ('f.mkv', 'ffv1', {}),
    ('g.avi', 'mjpeg', dict(pix_fmt='yuvj420p')),
    ('h.mp4', 'libx264', dict(pix_fmt='yuv444p')),
    ('i.mp4', 'libx264', dict(pix_fmt='yuv420p10le')),
    ('j.mkv', 'ffv1', dict(pix_fmt='gray')),
    ('k.mp4', 'libx264', dict(sound=True)),
    ('l.h264', 'libx264', {}),
    ('m.ts', 'libx264', {}),
    ('n.mkv', 'ffv1', dict(pix_fmt='bgr0')),
    ('o.mp4', 'libx264', dict(size=(162, 122))),
    ('p.avi', 'libx264', {}),
]  # frames stored in another order than they are shown


@pytest.mark.parametrize('name, codec, options', FILES, ids=[name for name, *_ in FILES])
def test_the_wanted_frames_come_out_of_any_file(tmp_path, name, codec, options):
    path = shoot(tmp_path / name, codec=codec, **options)
    video = probe(path)
    assert len(video) == N and video.size == options.get('size', SIZE)
    assert video.hz == pytest.approx(RATE, rel=1e-3)
    wanted = [0, 1, 7, 30, 58, 59]
    found = numbers_in(path, wanted)
    assert list(found) == wanted
    np.testing.assert_allclose(list(found.values()), wanted, atol=0.45)


@pytest.mark.parametrize(
    'codec, options', [('libx264', {'bf': '3', 'crf': '12'}), ('libx265', {'x265-params': 'log-level=none:bframes=4'})]
)
@pytest.mark.parametrize('threads', [1, 3])
def test_leaving_out_frames_changes_no_other(tmp_path, monkeypatch, codec, options, threads):
    video = probe(shoot(tmp_path / 'b.mp4', codec=codec, options=options, n=90))
    wanted = np.arange(0, 90, 7)
    decoded = []
    some = {at: shown.planes[0].copy() for at, shown in decode(video, wanted, threads, decoded.append)}
    monkeypatch.setattr(decoding, '_SKIPS', ())
    every = {at: shown.planes[0].copy() for at, shown in decode(video, np.arange(90), threads)}
    assert list(some) == wanted.tolist() and len(every) == 90 and sum(decoded) >= 90
    for at, plane in some.items():
        np.testing.assert_array_equal(plane, every[at])


@pytest.mark.parametrize('turned', [90, 180, -90])
def test_a_turned_film_is_put_upright(tmp_path, turned):
    plain, other = shoot(tmp_path / 'plain.mp4', n=12), shoot(tmp_path / 'turned.mp4', n=12, turned=turned)
    assert probe(other).size == probe(plain).size == SIZE and abs(probe(other).rotation) == abs(turned)
    (_, a), (_, b) = next(decode(probe(plain), [5])), next(decode(probe(other), [5]))
    assert abs(a.planes[0].astype(int) - b.planes[0]).mean() < 3
    assert a.rgb(60).shape == b.rgb(60).shape == (60, 80, 3)
    assert abs(a.rgb(60).astype(int) - b.rgb(60)).mean() < 4
    square = (40, 20, 120, 100)
    assert abs(a.crop(square, 40).astype(int) - b.crop(square, 40)).mean() < 4


def test_a_picture_has_the_colours_that_pyav_gives(tmp_path):
    "Crop of the whole picture against the conversion of FFmpeg."
    path = shoot(tmp_path / 'a.mp4', n=3, size=(128, 128))
    _, shown = next(decode(probe(path), [1]))
    theirs = shown.frame.to_ndarray(format='rgb24').astype(int)
    ours = shown.crop((-0.5, -0.5, 127.5, 127.5), 128).astype(int)
    assert abs(ours - theirs).mean() < 4 and abs((ours - theirs).mean((0, 1))).max() < 1.5
