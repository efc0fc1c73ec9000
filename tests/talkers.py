"""A network that talks, of a few thousand numbers."""

import numpy as np
import torch

from vitrail.data.source import scaling
from vitrail.models.gpt2 import GPT2Config
from vitrail.models.vit import ViTConfig
from vitrail.models.vit_gpt import ViTGPT, ViTGPTConfig
from vitrail.text.train import train_tokenizer
from vitrail.training.family import last_token

TEXTS = ["Is there a frog? yes no", "describe the picture", "描述图片", "图中有青蛙吗？ 是 否", "a frog and two apples"]


def tiny_talker(seed: int = 0) -> ViTGPT:
    """A vit-gpt with random weights that sees pictures of 16×16 pixels and reads 64 tokens."""
    tokenizer = train_tokenizer(TEXTS, 400, 64)
    text = GPT2Config(
        tokenizer.backend.get_vocab_size(), 64, width=24, depth=2, heads=2, mlp_width=48, end=last_token(tokenizer)
    )
    numbers = np.random.default_rng(seed)  # torch's would be others in every version
    model = ViTGPT(ViTGPTConfig(ViTConfig(16, 8, width=24, depth=2, heads=2, mlp_width=48), text)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # so large that different pictures get different answers
            weight.copy_(torch.from_numpy(numbers.normal(scale=0.3, size=weight.shape)))
    model.preprocess = scaling((16, 16))
    model.tokenizer = tokenizer
    return model
