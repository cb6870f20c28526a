"""Multiview-consistent semi-supervised 3D human pose: learned from synchronised cameras, without labels or calibration.

    make_dataset MultiviewDataset DatasetWriter         a store: frames (T, V, S, S, 3), poses, who, what, when
    ChunkPairSampler PairBatch ImageNumbers             pairs of views of one instant, for a batch; for a DataLoader
    pairwise_distance hardest_negative                  the consistency loss of the paper, in parts
    consistency_loss pose_loss                          ... and whole; the loss of poses
    PoseEncoder PoseHead PoseNet                        images -> unit vectors -> poses
    TrainConfig train embed                             a training in a folder; embeddings of a store
    trained_names trained_network card                  networks that come along
    retrieve retrieval_scores                           nearest neighbours, and scores by these protocols:
    cross_subject_cross_view same_subject_cross_view    who may find whom
    mpjpe n_mpjpe pa_mpjpe bootstrap_ci                 errors in mm, intervals over sequences
    JOINTS canonicalise                                 17 joints; a pose without place and heading

Folders: `mvssl.sources` (readers of data), `mvssl.show` (figures, pages), `mvssl.study` (the paper repeated).
Command line: `mvssl --help`. The notebooks in nbs/ are the source, and explain all of it.
"""
__version__ = "0.1.0"
from .names import __all__, __dir__, __getattr__    # noqa: F401  imported when first used
