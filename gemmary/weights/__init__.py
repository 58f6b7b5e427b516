"""Files <-> tensors: GGUF, safetensors, names, config readers; opening is strict, saving atomic."""
