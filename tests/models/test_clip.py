"""CLIP by itself: what its towers promise, and what it refuses."""

import pytest
import torch
from torch import nn

import vitrail
from vitrail.explain import where_it_looked
from vitrail.imaging.preprocess import standard
from vitrail.models.bert import BERTConfig
from vitrail.models.clip import CLIP, CLIPConfig, CLIPImageConfig, CLIPTextConfig
from vitrail.models.clip_resnet import Bottleneck, CLIPResNetConfig

IMAGE = CLIPImageConfig(image_size=32, patch_size=8, width=24, depth=2, heads=3, mlp_width=48)
RESNET = CLIPResNetConfig(image_size=64, width=8, depths=(1, 2, 1, 1), heads=4)
TEXT = CLIPTextConfig(vocabulary=50, context=11, width=16, depth=2, heads=2, mlp_width=32)
BERT_TEXT = BERTConfig(vocabulary=50, context=11, width=16, depth=2, heads=2, mlp_width=32)
SIZES = {
    "ViT": CLIPConfig(IMAGE, TEXT, 12),
    "ResNet": CLIPConfig(RESNET, TEXT, 12),
    "ViT and BERT": CLIPConfig(IMAGE, BERT_TEXT, 12),
}
END = 49


def shaken(config: CLIPConfig) -> CLIP:
    """A network whose every number is random."""
    model = CLIP(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def images_for(config: CLIPConfig, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, config.image_size, config.image_size)


def ids() -> torch.Tensor:
    return torch.tensor([[48, 7, 8, 9, END, 0, 0], [48, 5, END, 0, 0, 0, 0]])


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_two_towers_and_one_space(name):
    model = shaken(SIZES[name])
    images = images_for(model.config)
    pictures, words = model.encode_image(images, normalize=True), model.encode_text(ids(), normalize=True)
    assert pictures.shape == words.shape == (2, 12)
    torch.testing.assert_close(pictures.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(words.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(model(images, ids()), model.logit_scale.exp() * pictures @ words.T)
    assert model.head(pictures) is pictures


def test_the_first_scale():
    assert CLIP(SIZES["ViT"]).logit_scale.exp().item() == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("end", [None, END, 30])
@torch.no_grad()
def test_what_stands_behind_the_end_is_never_read(end):
    model = shaken(CLIPConfig(IMAGE, CLIPTextConfig(**{**vars(TEXT), "end": end}), 12))
    short = torch.tensor([[48, 7, end or END]])
    alone = model.embed_tokens(short)
    for filling in (0, 5, end or END):
        filled = torch.full((1, 11), filling)
        filled[:, :3] = short
        torch.testing.assert_close(model.embed_tokens(filled), alone)
    assert not torch.allclose(model.embed_tokens(torch.tensor([[48, 8, end or END]])), alone)


@torch.no_grad()
def test_a_batch_is_its_texts_one_by_one():
    for config in SIZES.values():
        model = shaken(config)
        together = model.embed_tokens(ids())
        torch.testing.assert_close(together[:1], model.embed_tokens(ids()[:1]))
        torch.testing.assert_close(together[1:], model.embed_tokens(ids()[1:, :3]))


def test_a_text_that_is_too_long():
    for config in SIZES.values():
        with pytest.raises(ValueError, match="a text of 12 tokens"):
            CLIP(config).embed_tokens(torch.full((1, 12), 3).index_fill(1, torch.tensor([11]), END))


@torch.no_grad()
def test_patches_in_the_common_space():
    """A place of the ResNet that all others equal says what the whole picture says, but for the positions."""
    model = shaken(SIZES["ViT"])
    features = model.features(images_for(model.config))
    vectors = model.patch_vectors(features)
    assert vectors.shape == (2, 16, 12)
    torch.testing.assert_close(model.pool(features[:, 3:]), vectors[:, 2])  # were that patch the class token

    model = shaken(SIZES["ResNet"])
    model.image.attention_pool.positions.zero_()
    features = model.features(images_for(model.config))
    assert features.shape == (2, 256, 2, 2)
    even = features[:, :, :1, :1].expand(-1, -1, 2, 2)
    vectors = model.patch_vectors(even)
    assert vectors.shape == (2, 4, 12)
    torch.testing.assert_close(vectors, model.pool(even)[:, None].expand(-1, 4, -1))
    torch.testing.assert_close(model.patch_vectors(features)[:, 0], vectors[:, 0])


@pytest.mark.parametrize(
    ("name", "size"), [("ViT", (40, 24)), ("ViT", (8, 8)), ("ResNet", (96, 32)), ("ResNet", (32, 32))]
)
@torch.no_grad()
def test_pictures_of_other_sizes(name, size):
    model = shaken(SIZES[name])
    assert model.encode_image(torch.randn(1, 3, *size)).shape == (1, 12)


def test_pictures_that_cannot_be_cut():
    with pytest.raises(ValueError, match="cannot be cut into 8×8 patches"):
        CLIP(SIZES["ViT"]).encode_image(torch.zeros(1, 3, 33, 32))


@pytest.mark.parametrize("name", ["ViT", "ResNet"])
def test_where_it_looked(name):
    model = shaken(SIZES[name])
    heat = where_it_looked(model, images_for(model.config))
    assert heat.shape == ((2, 4, 4) if name == "ViT" else (2, 2, 2))
    assert heat.max() == 1


@pytest.mark.parametrize("name", SIZES)
def test_every_number_learns(name):
    torch.manual_seed(0)
    model = CLIP(SIZES[name]).train()
    logits = model(images_for(model.config, 4), torch.cat([ids(), ids()[:, [0, 3, 2, 1, 4, 5, 6]]]))
    assert logits.isfinite().all()
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert [name for name in without if not name.startswith(("text.pooler", "text.types"))] == []


def test_bottlenecks_start_as_the_identity():
    for block in CLIP(SIZES["ResNet"]).modules():
        if isinstance(block, Bottleneck):
            x = torch.rand(1, block.reduce.convolution.in_channels, 4, 4)
            torch.testing.assert_close(block(x), block.shortcut(block.average(x)).relu())


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_into_a_file_of_our_own_and_back(name, tmp_path):
    model = shaken(SIZES[name])
    model.preprocess = standard(model.config.image_size)
    vitrail.save(model, tmp_path / "clip.safetensors")
    back = vitrail.load(tmp_path / "clip.safetensors", engine="eager")
    assert back.config == model.config
    images = images_for(model.config)
    assert torch.equal(back(images, ids()), model(images, ids()))
    assert (
        vitrail.load(tmp_path / "clip.safetensors", dtype=torch.bfloat16).encode_image(images).dtype == torch.bfloat16
    )


def test_words_without_a_tokenizer():
    with pytest.raises(vitrail.UsageError, match="no tokenizer"):
        CLIP(SIZES["ViT"]).encode_text("a cat")
