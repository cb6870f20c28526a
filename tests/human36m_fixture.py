"""Small invented copies of Human3.6M in its official formats byte by byte, and in the layouts of other projects: other
people, other cameras, every quirk.

truth = write_human36m(folder)              # as the archives unpack, with metadata.xml
truth.as_layout(other, 'processed')         # the same films as h36m-fetch, H36M-Toolbox, VideoPose3D have them
truth.poses['S9', 'Greeting 2']             # where the joints really were, (n, 17, 3) mm
"""

import os
import pickle
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from films import MARKS, pictures, walk, write_film
from mvssl.cameras import human36m_camera, look_at, project, to_camera

VIEWS = ('54138969', '55011271', '58860488', '60457274')
ALL_SUBJECTS = [f'S{i}' for i in range(1, 12)]
ACTION_NAMES = [
    '_ALL',
    'Directions',
    'Discussion',
    'Eating',
    'Greeting',
    'Phoning',
    'Posing',
    'Purchases',
    'Sitting',
    'SittingDown',
    'Smoking',
    'TakingPhoto',
    'Waiting',
    'Walking',
    'WalkingDog',
    'WalkingTogether',
]
SHORT = {'TakingPhoto': 'Photo', 'WalkingDog': 'WalkDog', 'WalkingTogether': 'WalkTogether'}
KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
OF_POINTS = [
    0,
    1,
    2,
    3,
    18,
    18,
    4,
    5,
    6,
    17,
    17,
    0,
    7,
    8,
    9,
    10,
    8,
    11,
    12,
    13,
    13,
    19,
    19,
    19,
    8,
    14,
    15,
    16,
    16,
    20,
    20,
    20,
]  # which of the films' points each of the 32 joints is
SEQUENCES = (
    ('S1', 12, 1, 'TakingPhoto 1'),
    ('S1', 12, 2, 'TakingPhoto'),
    ('S9', 5, 1, 'Greeting 1'),
    ('S9', 5, 2, 'Greeting'),
    ('S11', 2, 2, 'Directions'),
)  # subject, action, trial, name
SHIFTED = {('S9', 'Greeting 2')}


def camera_numbers(size=200, seed=3):
    "Invented w0: placement (4, 11, 6) and lenses (4, 9)."
    rng = np.random.default_rng(seed)
    place, scale = np.zeros((4, 11, 6)), size / 1000
    for subject in range(11):
        for view, (angle, radius) in enumerate(zip((50, 140, 230, 320), (5000, 4700, 5300, 4900))):
            angle = np.radians(angle + rng.uniform(-8, 8))
            eye = np.array([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(1450, 1620)])
            R = look_at(eye, rng.uniform(-60, 60, 3) + [0, 0, 950])[0].numpy()
            place[view, subject] = (
                np.arctan2(-R[1, 2], R[2, 2]),
                np.arcsin(R[0, 2]),
                np.arctan2(-R[0, 1], R[0, 0]),
                *eye,
            )
    lens = np.array(
        [
            [1140.0, 1142, 510, 515, -0.20, 0.23, -0.004, -0.0010, -0.0014],
            [1151, 1150, 506, 503, -0.19, 0.25, -0.010, -0.0017, -0.0005],
            [1147, 1146, 518, 501, -0.21, 0.24, 0.007, 0.0013, -0.0011],
            [1143, 1144, 513, 499, -0.20, 0.22, 0.001, -0.0006, 0.0017],
        ]
    )
    lens[:, :4] *= scale
    return place, lens


def cameras_of(place, lens, size):
    def turn(axis, angle):
        c, s, (i, j) = np.cos(angle), np.sin(angle), ((1, 2), (2, 0), (0, 1))[axis]
        matrix = np.eye(3)
        matrix[i, i], matrix[j, j], matrix[i, j], matrix[j, i] = c, c, -s, s
        return matrix

    sizes = [(size, size + 2 * (view in (0, 3))) for view in range(4)]
    R = [[turn(0, p[0]) @ turn(1, p[1]) @ turn(2, p[2]) for p in own] for own in place]
    return {
        subject: human36m_camera(
            np.array([R[v][s] for v in range(4)]),
            place[:, s, 3:],
            lens[:, :2],
            lens[:, 2:4],
            lens[:, 4:7],
            lens[:, 7:],
            sizes,
        )
        for s, subject in enumerate(ALL_SUBJECTS)
    }


def write_metadata(path, sequences, place, lens, frames, views=VIEWS):
    "FRAMES: (subject, action number, trial): five numbers."

    def row(cells):
        return '<tr>' + ''.join(f'<td>{cell}</td>' if cell else '<td/>' for cell in cells) + '</tr>'

    names = {(subject, action, trial): name for subject, action, trial, name in sequences}
    mapping = [row(['', '', *ALL_SUBJECTS])]
    for action in range(1, 17):
        for trial in (1, 2):
            mapping.append(
                row(
                    [
                        str(action),
                        str(trial),
                        *(
                            ('_ALL 1', '_ALL')[trial - 1] if action == 1 else names.get((s, action, trial), '')
                            for s in ALL_SUBJECTS
                        ),
                    ]
                )
            )
    mapping += [
        row(['', '', *(f'alias{i}' for i in range(11))]),
        row(['', '', *['[1002 1000; 1000 1000; 1000 1000; 1002 1000]'] * 11]),
    ]
    counts = [
        row(
            [
                '',
                *(
                    f"[{' '.join(map(str, frames[s, a, t]))}]" if (s, a, t) in frames else ''
                    for a in range(1, 17)
                    for t in (1, 2)
                ),
            ]
        )
        for s in ALL_SUBJECTS
    ]
    items = lambda values: ''.join(f'<item>{value}</item>' for value in values)  # noqa: E731
    w0 = ' '.join(repr(float(number)) for number in [*place.ravel(), *lens.ravel()])
    path.write_text(
        f"<?xml version='1.0' encoding='utf-8'?>\n<a><mapping>{''.join(mapping)}</mapping><toffiles/>"
        f"<frames>{''.join(counts)}</frames><skel_angles/><skel_pos/>"
        f'<w0>[{w0}]</w0><dbcameras><index2id>{items(views)}</index2id></dbcameras>'
        f'<actionnames>{items(ACTION_NAMES)}</actionnames><subject_measurements>[]</subject_measurements></a>\n'
    )


def write_cdf(path, values, variable='Pose'):
    "(T, 32, D) as one record of T x 32 D, single precision."
    from cdflib import cdfwrite

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    flat = np.asarray(values, np.float32).reshape(len(values), -1)
    file = cdfwrite.CDF(str(path), cdf_spec={'Compressed': 0, 'Encoding': 6})
    file.write_var(
        {
            'Variable': variable,
            'Data_Type': 44,
            'Num_Elements': 1,
            'Rec_Vary': True,
            'Var_Type': 'zVariable',
            'Dim_Sizes': list(flat.shape),
            'Compress': 0,
        },
        var_data=flat[None],
    )
    file.close()


def mask_boxes(joints, camera):
    "left, top, right, bottom, whole px, half open: spheres around joints, floored and ceiled, clipped."
    around = np.array(
        [[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if abs(x) + abs(y) + abs(z) in (1, 3)],
        float,
    )
    around *= 115 / np.linalg.norm(around, axis=1)[:, None]
    pixels = project(torch.as_tensor((joints[:, :, None] + around).reshape(len(joints), -1, 3)), camera).numpy()
    low, high = np.floor(pixels.min(1)).clip(0), np.ceil(pixels.max(1)).clip(max=camera.size.numpy())
    return np.concatenate([low, high], 1).astype(int)


def write_masks(path, boxes, size, version='7.3'):
    path.parent.mkdir(parents=True, exist_ok=True)
    masks = []
    for left, top, right, bottom in boxes:
        mask = np.zeros((size[1], size[0]), np.uint8)
        mask[top:bottom, left:right] = 1
        masks.append(mask)
    if version == '5':
        from scipy.io import savemat

        cells = np.empty((len(masks), 1), object)
        cells[:, 0] = masks
        savemat(path, {'Masks': cells}, do_compression=True)
        return
    import h5py

    with h5py.File(path, 'w', userblock_size=512) as file:
        refs = file.create_dataset('Masks', (len(masks), 1), dtype=h5py.ref_dtype)
        for i, mask in enumerate(masks):
            refs[i, 0] = file.create_dataset(f'#refs#/{i}', data=mask.T, compression='gzip', compression_opts=1).ref
    with open(path, 'r+b') as file:
        file.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64'.ljust(124) + b'\x00\x02IM')


@dataclass
class Truth:
    "What was invented, and where it was written."

    root: Path
    views: tuple
    cameras: dict  # subject: Camera (4,)
    place: np.ndarray
    lens: np.ndarray
    sequences: tuple
    joints: dict = field(
        default_factory=dict
    )  # (subject, sequence of the store): 32 joints as they were, (n, 32, 3) mm
    stored: dict = field(default_factory=dict)  # the 17 joints as the files have them
    poses: dict = field(default_factory=dict)  # the 17 joints as they were
    lengths: dict = field(default_factory=dict)  # frames of each view's video

    @property
    def subjects(self):
        return tuple(dict.fromkeys(s for s, *_ in self.sequences))

    def video(self, subject, name, view):
        return self.root / subject / 'Videos' / f'{name}.{view}.mp4'

    def metadata(self, path, **changes):
        frames = {
            (s, a, t): (*self.lengths[s, _title(a, t)], 4 * len(self.poses[s, _title(a, t)]) + 2)
            for s, a, t, _ in self.sequences
        }
        write_metadata(
            path, **dict(sequences=self.sequences, place=self.place, lens=self.lens, frames=frames) | changes
        )

    def as_layout(self, root, layout):
        "The same films as others have them."
        root.mkdir(parents=True, exist_ok=True)
        {
            'extracted': self._extracted,
            'by kind': self._by_kind,
            'processed': self._processed,
            'toolbox': self._toolbox,
            'videopose3d': self._videopose3d,
        }[layout](root)
        return root

    def _extracted(self, root):
        for subject in self.subjects:
            for inner, name in (
                ('MyPoseFeatures/D2_Positions', 'Poses_D2_Positions'),
                ('MyPoseFeatures/D3_Positions', 'Poses_D3_Positions'),
                ('MyPoseFeatures/D3_Positions_mono', 'Poses_D3_Positions_mono'),
                ('Videos', 'Videos'),
            ):
                _copy(self.root / subject / inner, root / 'extracted' / subject / name)
        self.metadata(root / 'metadata.xml')

    def _by_kind(self, root):
        for subject in self.subjects:
            for inner, name in (('MyPoseFeatures/D3_Positions', 'D3_positions'), ('Videos', 'Videos')):
                _copy(self.root / subject / inner, root / name / subject)
        self.metadata(root / 'metadata.xml')

    def _videopose3d(self, root):
        positions = {}
        for subject, action, trial, name in self.sequences:
            _copy(self.root / subject / 'Videos', root / subject / 'Videos')
            if (subject, action) == ('S11', 2):
                continue  # left out by the script that makes the file
            positions.setdefault(subject, {})[name.replace('TakingPhoto', 'Photo').replace('WalkingDog', 'WalkDog')] = (
                self._written(subject, action, trial) / 1000
            ).astype('float32')
        np.savez_compressed(root / 'data_3d_h36m.npz', positions_3d=positions)
        self.metadata(root / 'metadata.xml')

    def _written(self, subject, action, trial):
        key = subject, _title(action, trial)
        return self.joints[key] + np.array([200.0, 0, 0]) * (key in SHIFTED)

    def _frames_of(self, subject, name, view, wanted):
        with av.open(str(self.video(subject, name, view))) as container:
            for i, frame in enumerate(container.decode(video=0)):
                if i in wanted:
                    yield i, frame.to_ndarray(format='rgb24')

    def _processed(self, root, step=5):
        import h5py

        for subject, action, trial, name in self.sequences:
            folder = root / 'processed' / subject / f'{ACTION_NAMES[action - 1]}-{trial}'
            joints = self._written(subject, action, trial)
            frames, rows = np.arange(0, len(joints), step), []
            for v, view in enumerate(VIEWS):
                if (subject, action, v) == ('S11', 2, 0):
                    continue  # a view that could not be read is absent
                (folder / 'imageSequence' / view).mkdir(parents=True)
                for i, picture in self._frames_of(subject, name, view, set(frames.tolist())):
                    Image.fromarray(picture).save(
                        folder / 'imageSequence' / view / f'img_{i + 1:06d}.jpg', quality=97, subsampling=0
                    )
                camera = self.cameras[subject][v]
                rows.append(
                    {
                        'pose/2d': project(joints[frames], camera).numpy(),
                        'pose/3d': to_camera(joints[frames], camera).numpy(),
                        'frame': frames + 1,
                        'camera': np.full(len(frames), int(view)),
                        'action': np.full(len(frames), action),
                        'subaction': np.full(len(frames), trial),
                        'subject': np.full(len(frames), int(subject[1:])),
                    }
                )
            with h5py.File(folder / 'annot.h5', 'w') as file:
                for key in rows[0]:
                    file[key] = np.concatenate([row[key] for row in rows])
        self.metadata(root / 'metadata.xml')

    def _toolbox(self, root, step=5):
        items = {'train': [], 'validation': []}
        for subject, action, trial, name in self.sequences:
            joints = self._written(subject, action, trial)
            frames = np.arange(0, len(joints), step)
            for v, view in enumerate(VIEWS):
                title = f's_{int(subject[1:]):02d}_act_{action:02d}_subact_{trial:02d}_ca_{v + 1:02d}'
                (root / 'images' / title).mkdir(parents=True)
                is_empty = (subject, action, v) == ('S11', 2, 0)  # a folder without pictures, as many have it
                for i, picture in self._frames_of(subject, name, view, set(frames.tolist()) if not is_empty else set()):
                    Image.fromarray(picture).save(
                        root / 'images' / title / f'{title}_{i + 1:06d}.jpg', quality=97, subsampling=0
                    )
                camera, lens = self.cameras[subject][v], self.lens[v]
                own = dict(
                    R=camera.R.numpy(),
                    T=camera.centre.numpy()[:, None],
                    fx=lens[:1],
                    fy=lens[1:2],
                    cx=lens[2:3],
                    cy=lens[3:4],
                    k=lens[4:7, None],
                    p=lens[7:, None],
                )
                seen, inside = (
                    project(joints[frames][:, KEPT], camera).numpy(),
                    to_camera(joints[frames][:, KEPT], camera).numpy(),
                )
                items['validation' if subject in ('S9', 'S11') else 'train'] += [
                    dict(
                        image=f'{title}/{title}_{i + 1:06d}.jpg',
                        joints_2d=seen[n],
                        joints_3d=inside[n] * 1.05,
                        joints_3d_camera=inside[n],
                        joints_vis=np.ones((17, 3)),
                        video_id=0,
                        image_id=int(i) + 1,
                        subject=int(subject[1:]),
                        action=action,
                        subaction=trial,
                        camera_id=v,
                        source='h36m',
                        camera=own,
                    )
                    for n, i in enumerate(frames)
                ]
        (root / 'annot').mkdir()
        for part, own in items.items():
            (root / 'annot' / f'h36m_{part}.pkl').write_bytes(pickle.dumps(own, protocol=2))


def _title(action, trial):
    return f'{SHORT.get(ACTION_NAMES[action - 1], ACTION_NAMES[action - 1])} {trial}'


def _copy(folder, to):
    shutil.copytree(folder, to, copy_function=os.link, dirs_exist_ok=True) if not to.exists() else None


def write_human36m(root, sequences=SEQUENCES, n=42, size=200, seed=0, every=5, room=False, masks=True, at=(0, 0)):
    """Films N frames of each sequence (subject, number of the action, trial, name) and writes everything as the
    archives unpack.

    SIZE is the width of the pictures, px, where Human3.6M has 1000. People are drawn in every EVERY-th frame only, all
    frames carry their number as colour and marks on three joints, unless a ROOM is drawn. They stay around AT, mm from
    the middle of the floor.
    """
    place, lens = camera_numbers(size)
    truth = Truth(root, VIEWS, cameras_of(place, lens, size), place, lens, tuple(sequences))
    for index, (subject, action, trial, name) in enumerate(sequences):
        points, key, folder = walk(n + 3, seed + index) + [*at, 0], (subject, _title(action, trial)), root / subject
        truth.joints[key] = points[:n, OF_POINTS]
        written = truth._written(subject, action, trial)
        truth.poses[key], truth.stored[key], truth.lengths[key] = (
            points[:n, :17],
            written[:, KEPT],
            [n + 1, n + 3, n + 3, n + 1],
        )
        write_cdf(folder / 'MyPoseFeatures' / 'D3_Positions' / f'{name}.cdf', written)
        for v, view in enumerate(VIEWS):
            camera = truth.cameras[subject][v]
            write_film(
                truth.video(subject, name, view),
                pictures(
                    points[: truth.lengths[key][v]],
                    camera,
                    room,
                    None if room else MARKS,
                    seed=int(subject[1:]),
                    every=every,
                ),
                gop=12,
            )
            write_cdf(
                folder / 'MyPoseFeatures' / 'D2_Positions' / f'{name}.{view}.cdf', project(written, camera).numpy()
            )
            write_cdf(
                folder / 'MyPoseFeatures' / 'D3_Positions_mono' / f'{name}.{view}.cdf',
                to_camera(written, camera).numpy(),
            )
            if masks:
                write_masks(
                    folder / 'MySegmentsMat' / 'ground_truth_bb' / f'{name}.{view}.mat',
                    mask_boxes(written, camera),
                    camera.size.tolist(),
                    '5' if v == 3 else '7.3',
                )
    for name in ('_ALL', '_ALL 1'):
        first = sequences[0]
        for view in VIEWS[:2]:
            shutil.copy(truth.video(first[0], first[3], view), truth.video(first[0], name, view))
            shutil.copy(
                root / first[0] / 'MyPoseFeatures' / 'D2_Positions' / f'{first[3]}.{view}.cdf',
                root / first[0] / 'MyPoseFeatures' / 'D2_Positions' / f'{name}.{view}.cdf',
            )
    truth.metadata(root / 'metadata.xml')
    return truth
