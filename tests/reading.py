"""Networks that read: one made by hand, whose answers are known, and a small CLIP with random weights."""

import math
import os
from pathlib import Path

import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

import vitrail
from vitrail.imaging.preprocess import Preprocess, Resize, standard
from vitrail.models.clip import CLIP, CLIPConfig, CLIPImageConfig, CLIPTextConfig
from vitrail.models.image_text import ImageText
from vitrail.text.tokenizer import Tokenizer

MEANINGS = {
    "": (0.0, 0.0, 0.0),  # filling
    "?": (0.0, 0.0, 0.0),  # a word it does not know
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "grey": (1.0, 1.0, 1.0),
    "dark": (-0.5, 0.2, 0.1),
}
WORDS = ("", "?", "red", "green", "blue", "a", "cat", "dog", "photo", "of", "drawing", "<start>", "<end>")


def word_tokenizer(words: tuple[str, ...] = WORDS, *, marked: bool = False, context: int = 8) -> Tokenizer:
    """A token a word; `marked` texts stand between the last two words."""
    backend = Backend(WordLevel({word: number for number, word in enumerate(words)}, unk_token="?"))
    backend.pre_tokenizer = WhitespaceSplit()
    if marked:
        edges = [(word, words.index(word)) for word in words[-2:]]
        backend.post_processor = TemplateProcessing(f"{words[-2]} $A {words[-1]}", special_tokens=edges)
    return Tokenizer(backend, context=context, pad=0)


class Colours(ImageText):
    """Sees the colours of 4×4 fields, and knows words for some: a text means the sum of its words.

    Args:
        bias: what is added to cosines; with one, each label is judged by itself.
        words: what the words mean, as red, green and blue.
    """

    family = "colours"

    def __init__(self, bias: float | None = None) -> None:
        super().__init__()
        self.meanings = nn.Parameter(torch.tensor(list(MEANINGS.values())))
        self.logit_scale = torch.tensor(math.log(5.0))
        self.logit_bias = None if bias is None else torch.tensor(bias)
        self.head = nn.Identity()
        self.preprocess = Preprocess(Resize((32, 32)), mean=None, std=None)
        self.tokenizer = word_tokenizer(tuple(MEANINGS))
        self.texts_read: list[int] = []
        self.eval()

    def features(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 8)

    def pool(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))

    def patch_vectors(self, features: Tensor) -> Tensor:
        return features.flatten(2).transpose(1, 2)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        self.texts_read.append(len(ids))
        return self.meanings[ids].sum(1)


def tiny_clip(seed: int = 0) -> CLIP:
    """A CLIP of a few thousand random numbers that sees 32×32 pixels in patches of 8×8."""
    torch.manual_seed(seed)
    image = CLIPImageConfig(32, 8, width=32, depth=2, heads=2, mlp_width=64)
    text = CLIPTextConfig(len(WORDS), context=12, width=32, depth=2, heads=2, mlp_width=64)
    model = CLIP(CLIPConfig(image, text, width=24)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                parameter.normal_(std=0.3)  # so that different pictures and texts get different vectors
    model.preprocess = standard(32)
    model.tokenizer = word_tokenizer(marked=True, context=12)
    return model


def saved_tiny_clip(folder: Path) -> str:
    """The same in a `.safetensors` file; its name."""
    return os.fspath(vitrail.save(tiny_clip(), folder / "tiny-clip.safetensors"))
