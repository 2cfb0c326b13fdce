"""The embedding room: documents to unit vectors, with any encoder that transformers can load.

    texts -> token ids (once, unpadded) -> batches of like length -> forward -> pooling -> unit norm -> given order

``loading`` makes an ``Encoder`` of a model, ``packing`` lays its weights out for the CPU, ``identity`` says which
model it was. torch and transformers are imported when a model is loaded, and nowhere else in gapsel.
"""

from gapsel.embed.device import DType
from gapsel.embed.encoder import Encoded, Encoder, Pooling, Tokenized
from gapsel.embed.loading import DEFAULT_MODEL, load

__all__ = ["DEFAULT_MODEL", "DType", "Encoded", "Encoder", "Pooling", "Tokenized", "load"]
