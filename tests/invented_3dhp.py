"""An invented MPI-INF-3DHP: the official files byte by byte, other people, cameras and pictures, all of it known.

rig = make_rig()                                             # 14 cameras
truth = write_sequence(raw/'S1'/'Seq1', 30, cameras=(0, 2))  # annot.mat, camera.calibration, imageSequence/ ...
truth = write_test_sequence(raw/'TS1', 40)                   # annot_data.mat, imageSequence/img_000001.jpg ...
write_test_cameras(raw)                                      # test_util/camera_calibration/ts1-4cameras.calib ...
"""

from dataclasses import dataclass
from functools import cache

import h5py
import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from films import MARKS, pictures, walk, write_film
from mvssl.cameras import Camera, look_at, project, ring, to_camera
from mvssl.sources.motion import POINTS
from mvssl.sources.mpi_inf_3dhp import FROM_28, JOINTS_28

Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # our world -> theirs
SIDE = 192  # of the pictures, px; the real ones have 2048


@cache
def make_rig(size=SIDE):
    "14 cameras around the floor as theirs stand: chest and knee height, some look down, three at the ceiling."
    heights = [1500, 400, 1450, 2600, 1500, 500, 2400, 1550, 1480, 600, 2500, 3600, 3650, 3700]
    radii = [4000, 4300, 4100, 3800, 4600, 4200, 4000, 4400, 4200, 4500, 3900, 2600, 2700, 2500]
    return ring(
        14,
        torch.tensor(radii, dtype=torch.float64),
        torch.tensor(heights, dtype=torch.float64),
        size=(size, size),
        focal_px=1497.0 * size / 2048,
        start_deg=20.0,
    )


def joints_28(points):
    "Their 28 joints from our points (n, 21, 3)."
    at = dict(zip(POINTS, np.moveaxis(points, 1, 0)))
    found = dict(zip((JOINTS_28[j] for j in FROM_28), np.moveaxis(points[:, :17], 1, 0)))
    for i, name in enumerate(('spine2', 'spine3', 'spine4'), start=1):
        found[name] = at['Spine'] + i / 4 * (at['Thorax'] - at['Spine'])
    for side in ('left', 'right'):
        letter = side[0].upper()
        found[f'{side}_clavicle'] = 0.6 * at['Thorax'] + 0.4 * at[f'{letter}Shoulder']
        found[f'{side}_hand'], found[f'{side}_toe'] = at[f'{letter}Hand'], at[f'{letter}Toe']
        found[f'{side}_foot'] = 0.4 * at[f'{letter}Foot'] + 0.6 * at[f'{letter}Toe']
    return np.stack([found[name] for name in JOINTS_28], axis=1)


def calibration_text(rig, numbers=range(14)):
    "camera.calibration with its blanks, also those at the end of lines."

    def words(matrix):
        return ''.join(f'{value:.10g} ' for value in matrix.ravel())

    lines = ['Skeletool Camera Calibration File V1.0']
    for number in numbers:
        camera, K, E = rig[number], np.eye(4), np.eye(4)
        K[:3, :3], E[:3, :3], E[:3, 3] = camera.K.numpy(), camera.R.numpy() @ Y_UP.T, camera.t.numpy()
        width, height = camera.size.tolist()
        lines += [
            f'name          {number}',
            '  sensor      10 10',
            f'  size        {width} {height}',
            '  animated    0',
            f'  intrinsic   {words(K)}',
            f'  extrinsic   {words(E)}',
            '  radial      0',
        ]
    return '\n'.join(lines) + '\n'


def annotation(points, rig, scale=0.93):
    "The variables of annot.mat for points (n, 21, 3): what 14 cameras have to say."
    world = torch.tensor(joints_28(points))
    annot2, annot3, univ = (np.empty((14, 1), object) for _ in range(3))
    for c in range(14):
        inside = to_camera(world, rig[c]).numpy()
        root = inside[:, JOINTS_28.index('pelvis'), None]
        annot2[c, 0] = project(world, rig[c]).numpy().reshape(len(points), 56)
        annot3[c, 0] = inside.reshape(len(points), 84)
        univ[c, 0] = (root + (inside - root) * scale).reshape(len(points), 84)
    return dict(
        annot2=annot2,
        annot3=annot3,
        univ_annot3=univ,
        cameras=np.arange(14)[None],
        frames=np.arange(len(points))[:, None],
    )


def write_mat(path, variables, version=5):
    "A MATLAB file; version 7.3 is HDF5 behind 512 bytes, axes reversed, cells as references."
    path.parent.mkdir(parents=True, exist_ok=True)
    if version == 5:
        return savemat(path, variables)
    with h5py.File(path, 'w', userblock_size=512) as file:
        for name, value in variables.items():
            if value.dtype != object:
                file[name] = value.T
            else:
                cells = np.empty(value.T.shape, h5py.ref_dtype)
                for at in np.ndindex(value.shape):
                    key = f'#refs#/{name}{"_".join(map(str, at))}'
                    file[key] = value[at].T
                    cells[at[::-1]] = file[key].ref
                file.create_dataset(name, data=cells, dtype=h5py.ref_dtype)
    with open(path, 'r+b') as file:
        file.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64'.ljust(124) + b'\x00\x02IM')


@dataclass
class Truth:
    "What a sequence was made from."

    points: np.ndarray  # mm, z up, (n, 21, 3); the first 17 are our joints
    rig: Camera  # (14,), or one camera of the test set

    @property
    def poses(self):
        return self.points[:, :17]


@cache
def shown(n, camera, seed=0, hz=25):
    "Pictures of N frames before a camera of the rig; they are made once."
    return list(pictures(walk(n, seed=seed, hz=hz), make_rig()[camera], marks=MARKS, radius=SIDE / 64, seed=seed))


def write_sequence(
    folder, n, cameras=(0, 2), hz=25, seed=0, version=5, frames='video', extra=2, lengths=None, flashes=()
):
    """One sequence of N annotated frames. FRAMES: video, or the layout of extracted frames (margipose, spin, readme,
    hybrik). EXTRA more frames than annotated; LENGTHS[camera]: another number of frames; FLASHES: (camera, frame)
    pairs that are white."""
    rig, points = make_rig(), walk(n + extra, seed=seed, hz=hz)
    write_mat(folder / 'annot.mat', annotation(points[:n], rig), version)
    (folder / 'camera.calibration').write_text(calibration_text(rig))
    for c in cameras:
        images = [
            np.full_like(image, 254) if (c, i) in flashes else image
            for i, image in enumerate(shown(n + extra, c, seed, hz)[: (lengths or {}).get(c)])
        ]
        if frames == 'video':
            write_film(folder / 'imageSequence' / f'video_{c}.avi', images, hz=hz)
        else:
            write_frames(folder, c, images, frames)
    return Truth(points[:n], rig)


LAYOUTS = dict(
    margipose=('imageSequence/video_{c}/img_{i:06d}.jpg', 1),
    spin=('imageFrames/video_{c}/frame_{i:06d}.jpg', 1),
    readme=('imageSequence/img_{c}_{i:06d}.jpg', 1),
    posepile=('imageSequence/img_{c}_{i:06d}.jpg', 0),
    mmpose=('images/S1_Seq1_Cam{c}_{i:06d}.jpg', 1),
    hybrik=('images/S1_Seq1_V{c}/img_S1_Seq1_V{c}_{i:06d}.jpg', 1),
)


def write_frames(folder, camera, images, layout):
    pattern, first = LAYOUTS[layout]
    for i, image in enumerate(images, start=first):
        path = folder / pattern.format(c=camera, i=i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=95, subsampling=0)


# ---- test set --------------------------------------------------------------------------------------------------------

TEST_SIZES = {'ts1-4': (SIDE, SIDE), 'ts5-6': (240, 135)}  # 2048 x 2048 and 1920 x 1080


def test_camera(which):
    "The camera of TS1 to TS4, or that of TS5 and TS6, which has a lens."
    width, height = TEST_SIZES[which]
    focal, sensor = (7.3, 10.0) if which == 'ts1-4' else (8.8, 10.0)
    K = np.array(
        [
            [focal * width / sensor, 0, width / 2 - 0.03 * width / sensor],
            [0, focal * width / sensor, height / 2 + 0.09 * width / sensor],
            [0, 0, 1],
        ]
    )
    eye = [3400.0, -300.0, 1390.0] if which == 'ts1-4' else [-2100.0, 4600.0, 1040.0]
    return Camera(
        K,
        *look_at(eye, (0.0, 0.0, 950.0)),
        (width, height),
        None if which == 'ts1-4' else [-0.05, 0.02, -0.0004, -0.001, 0.0],
    )


def test_calibration_text(which):
    camera = test_camera(which)
    width, height = camera.size.tolist()
    K, R, per_mm = camera.K.numpy(), camera.R.numpy() @ Y_UP.T, width / 10

    def words(values):
        return ' '.join(f'{value:.10g}' for value in values)

    lines = [
        'tc camera calibration v0.3',
        'camera\t0\tcam_0',
        '\tframe\t0',
        f'\t\tsensorSize\t10 {10 * height / width:.10g}\t# in mm',
        f'\t\tfocalLength\t{K[0, 0] / per_mm:.10g}\t# in mm',
        f'\t\tpixelAspect\t{K[1, 1] / K[0, 0]:.10g}',
        f'\t\tcenterOffset\t{words([(K[0, 2] - width / 2) / per_mm, (K[1, 2] - height / 2) / per_mm])}\t# in mm '
        f'(positive values move right and down)',
        *(
            []
            if camera.distortion is None
            else ['\t\tdistortionModel\tOpenCV', f'\t\tdistortion\t{words(camera.distortion.tolist())}']
        ),
        f'\t\torigin\t{words(camera.centre.numpy() @ Y_UP.T)}\t# in mm',
        f'\t\tup\t{words(-R[1])}',
        f'\t\tright\t{words(R[0])}',
    ]
    return '\n'.join(lines) + '\n'


def write_test_cameras(raw):
    folder = raw / 'test_util' / 'camera_calibration'
    folder.mkdir(parents=True, exist_ok=True)
    for which in TEST_SIZES:
        (folder / f'{which}cameras.calib').write_text(test_calibration_text(which))


OFFICIAL_17 = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)  # of the 28


def write_test_sequence(folder, n, valid=None, activities=None, seed=0, version=7.3, scale=0.93):
    "One test sequence, every frame a JPEG; VALID frames (default: every other), ACTIVITIES 1 to 7 of each frame."
    which = 'ts1-4' if folder.name <= 'TS4' else 'ts5-6'
    camera = test_camera(which)
    points = walk(n, seed=seed, hz=25)
    world = torch.tensor(joints_28(points)[:, OFFICIAL_17])
    inside = to_camera(world, camera).numpy()
    root = inside[:, 14:15]
    is_valid = np.arange(n) % 2 == 0 if valid is None else np.isin(np.arange(n), valid)

    def matlab(values):
        return np.asfortranarray(values[:, None].transpose())  # (n, 17, k) -> k x 17 x 1 x n

    write_mat(
        folder / 'annot_data.mat',
        dict(
            annot2=matlab(project(world, camera).numpy()),
            annot3=matlab(inside),
            univ_annot3=matlab(root + (inside - root) * scale),
            valid_frame=is_valid[:, None].astype(float),
            activity_annotation=np.full((n, 1), 1.0) if activities is None else np.asarray(activities, float)[:, None],
        ),
        version,
    )
    write_frames_of_test(folder, pictures(points, camera, marks=MARKS, radius=SIDE / 64, seed=seed))
    return Truth(points, camera)


def write_frames_of_test(folder, images):
    (folder / 'imageSequence').mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images, start=1):
        Image.fromarray(image).save(folder / 'imageSequence' / f'img_{i:06d}.jpg', quality=95, subsampling=0)
