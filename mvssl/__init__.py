"""Multiview-consistent semi-supervised 3D human pose: sampler, loss, encoder, training and retrieval; see `mvssl.names`."""
__version__ = "0.1.0"
from .names import __all__, __dir__, __getattr__    # noqa: F401  imported when first used
