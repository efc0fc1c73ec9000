"""A SmolVLM of a few thousand numbers and the tokenizer it needs, for tests."""

import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE

from vitrail.imaging.preprocess import HALF, Resize
from vitrail.imaging.tiles import TiledPreprocess
from vitrail.models.llama import LlamaConfig
from vitrail.models.siglip import SigLIPImageConfig
from vitrail.models.smolvlm import SmolVLM, SmolVLMConfig
from vitrail.text.tokenizer import Tokenizer

SIGNS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
)
PLAIN = 256 + 1  # bytes, and two line ends
PICTURE, END, FILLER = (PLAIN + SIGNS.index(sign) for sign in ("<image>", "<end_of_utterance>", "<|im_end|>"))
VOCABULARY = PLAIN + len(SIGNS)


def smol_backend() -> Backend:
    """Bytes, one pair of them, two line ends, as in SmolLM2's vocabulary, and SmolVLM's signs."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    backend = Backend(BPE(vocabulary | {"ĊĊ": PLAIN - 1}, [("Ċ", "Ċ")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SIGNS))
    return backend


def smol(context: int = 1000, **text: int | tuple[int, ...]) -> SmolVLM:
    """A SmolVLM with random weights: tiles of 16×16 pixels, 4 tokens each, 16 tiles a picture at most."""
    torch.manual_seed(0)
    decoder = LlamaConfig(VOCABULARY, context, width=24, depth=2, heads=3, kv_heads=1, mlp_width=40, **text)
    encoder = SigLIPImageConfig(image_size=16, patch_size=4, width=16, depth=2, heads=2, mlp_width=24)
    model = SmolVLM(SmolVLMConfig(encoder, decoder, shuffle=2, picture=PICTURE)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that different pictures get different answers
    model.preprocess = TiledPreprocess(Resize((16, 16)), transparency="white", mean=HALF, std=HALF, longest=64)
    model.tokenizer = Tokenizer(smol_backend(), context, pad=FILLER, fixed=False)
    return model
