"""Films of somebody who walks, as whole pictures of given cameras, with everything known: what the fixtures of
licensed datasets are made of.

points = walk(40)                                           # (40, 21, 3) mm, z up; the first 17 are our joints
write_film(path, pictures(points, camera))                  # .mp4 (H.264) or .avi (MPEG-4)
frame_number(crop)                                          # which frame a crop was cut from, by the background
find_mark(crop, colour)                                     # where a mark is in it
"""

from functools import cache

import av
import numpy as np
import torch
import torch.nn.functional as F

from mvssl.cameras import Camera, crop_camera, project, undistort
from mvssl.skeleton import JOINTS
from mvssl.sources.bodies import make_body, make_skin
from mvssl.sources.motion import generate, make_style
from mvssl.sources.rendering import Backdrop, Room, make_room, photograph

LEVELS = 6  # of red, green and blue: 216 frames can be told apart
CODES = LEVELS**3
AT_A_TIME = 16  # pictures that are drawn together
MARKS = {
    'Head': (255, 0, 255),
    'LWrist': (0, 255, 255),
    'RFoot': (255, 255, 0),
}  # colours that no background has: its channels lie in 20..170


@cache
def person(seed=0):
    "Body and style of moving of somebody."
    rng = np.random.default_rng(seed)
    return make_body(rng), make_style(rng)


@cache
def skin(seed=0):
    return make_skin(person(seed)[0], 60)


def walk(n, seed=0, action='Walking', hz=50, room_mm=600.0):
    """Points of N instants of somebody who stays within ROOM_MM of the middle of the floor, mm, z up, (n, 21, 3)
    float64."""
    body, style = person(seed)
    points = (
        generate(action, style, n, np.random.default_rng([seed, n]), hz=hz).points(body.proportions).astype(np.float64)
    )
    way = points[:, :1, :2]
    return points - np.concatenate(
        [way - room_mm * np.tanh((way - way.mean(0)) / room_mm), np.zeros((n, 1, 1))], axis=2
    )


def code_colour(frame):
    "Colour of the background of a frame: neighbours differ in every channel."
    k = np.arange(3)
    return 20 + 30 * ((frame // LEVELS**k + frame * (k > 0)) % LEVELS)


def frame_number(picture, frames=CODES):
    "Number of the frame, below FRAMES, whose colour the corners of a picture show."
    corners = np.concatenate(
        [picture[y, x].reshape(-1, 3) for y in (slice(0, 6), slice(-6, None)) for x in (slice(0, 6), slice(-6, None))]
    )
    colours = np.stack([code_colour(i) for i in range(min(frames, CODES))])
    return int(abs(colours - np.median(corners, axis=0)).sum(1).argmin())


def find_mark(picture, colour, threshold=70):
    "Centre of a mark in a picture, px, (2,); NaN where it is not visible."
    away = abs(picture.astype(float) - colour).max(-1)
    weight = np.clip(threshold - away, 0, None)
    if weight.max() < 0.3 * threshold:
        return np.full(2, np.nan)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def _draw_marks(picture, pixels, marks, radius):
    for name, colour in marks.items():
        x, y = pixels[JOINTS.index(name)]
        if not np.isfinite([x, y]).all():
            continue
        left, top = int(x - radius - 2), int(y - radius - 2)
        part = picture[
            max(0, top) : max(0, top + int(2 * radius) + 6), max(0, left) : max(0, left + int(2 * radius) + 6)
        ]
        rows, columns = (
            np.mgrid[: part.shape[0], : part.shape[1]] + np.array([max(0, top), max(0, left)])[:, None, None]
        )
        share = np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
        part[:] = (part * (1 - share) + np.array(colour) * share + 0.5).astype(np.uint8)


class _Lens:
    "Renders one camera's pictures: an ideal camera with a wider square picture, then bent by the lens."

    def __init__(self, camera, room, seed):
        width, height = camera.size.tolist()
        self.ideal = Camera(camera.K, camera.R, camera.t, camera.size)
        extent = max(width, height)
        margin = 0.25 * extent if camera.distortion is not None else 0.0
        box = torch.tensor(
            [-0.5 - margin, -0.5 - margin, extent - 0.5 + margin, extent - 0.5 + margin], dtype=torch.float64
        )
        self.side = int(round(extent + 2 * margin))
        self.crop, to_picture = crop_camera(self.ideal, box, self.side)
        y, x = np.mgrid[:height, :width]
        pixels = undistort(torch.tensor(np.stack([x, y], -1).reshape(1, -1, 2), dtype=torch.float64), camera)[0]
        at = (pixels - to_picture[:2, 2]) / to_picture[0, 0]
        self.grid = ((2 * at + 1) / self.side - 1).reshape(1, height, width, 2).float()
        square = Camera(camera.K, camera.R, camera.t, (extent, extent))
        style = make_room(np.random.default_rng(seed), camera.centre[None].numpy()) if room else Room()
        self.backdrop = Backdrop(style, square.reshape(1), scale=1.0 if room else 0.05, margin=0.3)

    def pictures(self, skin, points, codes):
        "(n, H, W, 3) uint8 of N instants; CODES are the colours of the backgrounds, None leaves the room."
        cameras = self.crop.reshape(1)[torch.zeros(len(points), 1, dtype=torch.long)]
        seen, share = photograph(
            skin, torch.as_tensor(points).float(), cameras, self.backdrop, self.side, coverage=True
        )
        seen = seen[:, 0].float()
        if codes is not None:
            seen = seen * share[:, 0, ..., None] + torch.tensor(np.array(codes)).float()[:, None, None] * (
                1 - share[:, 0, ..., None]
            )
        bent = F.grid_sample(
            seen.permute(0, 3, 1, 2),
            self.grid.expand(len(points), -1, -1, -1),
            align_corners=False,
            padding_mode='border',
        )
        return bent.permute(0, 2, 3, 1).add(0.5).clamp(0, 255).to(torch.uint8).numpy()


_LENSES = {}


def _lens(camera, room, seed):
    "The same one for the same camera in the same room: making it takes longer than ten pictures."
    parts = camera.K, camera.R, camera.t, camera.size, camera.distortion
    key = room, seed, *(part if part is None else part.numpy().tobytes() for part in parts)
    if key not in _LENSES:
        _LENSES[key] = _Lens(camera, room, seed)
    return _LENSES[key]


def pictures(points, camera, room=False, marks=None, radius=None, seed=0, first=0, every=1):
    """What one camera sees of POINTS (n, 21, 3), world, mm, z up: yields (H, W, 3) uint8, one per instant.

    The camera may have a lens (`distortion`) and pictures that are not square. Without ROOM the background has the
    colour of the frame's number, counted from FIRST. The person is drawn in every EVERY-th picture only, which saves
    time where others are not looked at (with a ROOM they repeat the last one). MARKS are discs of RADIUS px (default:
    a 60th of the picture) on joints, name: colour (see `MARKS`).
    """
    lens = _lens(camera, room, seed)
    radius = radius or max(2.0, float(camera.size.max()) / 60)
    pixels = project(torch.as_tensor(points[:, : len(JOINTS)]).double(), camera).numpy()
    drawn, made = [i for i in range(len(points)) if (first + i) % every == 0 or (room and i == 0)], {}
    for i in range(len(points)):
        if i in drawn and i not in made:  # several at a time, which costs half
            some = drawn[drawn.index(i) :][:AT_A_TIME]
            made = dict(
                zip(
                    some,
                    lens.pictures(skin(seed), points[some], None if room else [code_colour(first + j) for j in some]),
                )
            )
        if i in drawn or room:
            picture = made[max(j for j in made if j <= i)].copy()
        else:
            picture = np.full((*camera.size.tolist()[::-1], 3), code_colour(first + i), np.uint8)
        _draw_marks(picture, pixels[i], marks or {}, radius)
        yield picture


def planes(picture):
    """YUV 4:2:0 planes below each other, (1.5 H, W) uint8, of RGB: colour samples lie on even columns, between two
    rows, as H.264 has it."""
    red, blue = (0.2126, 0.0722) if min(picture.shape[:2]) >= 720 else (0.299, 0.114)
    rgb = picture.astype(np.float32)
    luma = rgb @ np.array([red, 1 - red - blue, blue], np.float32)
    colour = np.stack([(rgb[..., 2] - luma) / (2 - 2 * blue), (rgb[..., 0] - luma) / (2 - 2 * red)])
    colour = (colour[:, ::2] + colour[:, 1::2]) / 2
    beside = np.pad(colour, [(0, 0), (0, 0), (1, 1)], mode='edge')
    colour = ((beside[..., :-2] + 2 * colour + beside[..., 2:]) / 4)[..., ::2] * (224 / 255) + 128
    return (
        np.concatenate([(luma * (219 / 255) + 16).reshape(-1), colour.reshape(-1)])
        .clip(0, 255)
        .round()
        .astype(np.uint8)
        .reshape(-1, picture.shape[1])
    )


def write_film(path, frames, hz=50, codec=None, gop=25, b_frames=True):
    "Writes RGB frames (H, W, 3) uint8 as a video; the codec follows from the ending: .mp4 H.264, .avi MPEG-4."
    codec = codec or ('mpeg4' if path.suffix == '.avi' else 'libx264')
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=hz)
        stream.pix_fmt, stream.codec_context.gop_size = 'yuv420p', gop
        if codec == 'libx264':
            stream.options = {'crf': '16', 'preset': 'veryfast'} | ({} if b_frames else {'bf': '0'})
        else:
            stream.bit_rate = 40_000_000  # more than it takes: no blocks
        for i, picture in enumerate(frames):
            if i == 0:
                stream.height, stream.width = picture.shape[:2]
            for packet in stream.encode(av.VideoFrame.from_ndarray(planes(picture), format='yuv420p')):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
