"""The embedding room: documents to unit vectors, with any model that transformers can load.

    texts -> token ids (once, unpadded) -> batches of like length -> features -> unit norm -> given order

``loading`` makes an ``Encoder`` of a model that ``pretrained`` found, ``packing`` lays its weights out for the CPU,
``pooling`` reduces its hidden states, ``identity`` says which model it was. ``language`` is a model's loss on a
document, ``lora`` its gradients, which ``projection`` folds for ``gradients``. ``moments`` of a sample scale those, and
hidden states by ``standard``; ``scaling`` has both. torch and
transformers are imported when a model is loaded, and nowhere else in gapsel.
"""

from gapsel.embed.device import DType
from gapsel.embed.encoder import Encoded, Encoder, Tokenized
from gapsel.embed.loading import Kind, load
from gapsel.embed.moments import MOMENTS, Moments
from gapsel.embed.pooling import Pooling
from gapsel.embed.pretrained import DEFAULT_MODEL
from gapsel.embed.scaling import SCALED, sample_moments, scaled

__all__ = [
    "DEFAULT_MODEL",
    "MOMENTS",
    "SCALED",
    "DType",
    "Encoded",
    "Encoder",
    "Kind",
    "Moments",
    "Pooling",
    "Tokenized",
    "load",
    "sample_moments",
    "scaled",
]
