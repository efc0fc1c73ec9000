from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import vitrail
from tests.pictures import EXAMPLES
from tests.reading import Colours, tiny_clip
from vitrail.errors import UsageError, VitrailError
from vitrail.explain import (
    attention_rollout,
    class_activation,
    explain,
    patch_components,
    phrase_map,
    where_it_looked,
)
from vitrail.models.deit import DeiT, DeiTConfig
from vitrail.models.dinov2 import DINOv2, DINOv2Config
from vitrail.models.efficientnet import EfficientNet, EfficientNetConfig
from vitrail.models.model import Model
from vitrail.models.vit import ViT, ViTConfig
from vitrail.nn.attention import watch_attention

SMALL = ViTConfig(image_size=32, patch_size=8, width=24, depth=3, heads=3, mlp_width=48, classes=7)


class Given(Model):
    """A network whose features are given, and counted."""

    family = "given"

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.given, self.runs, self.head = features, 0, nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        self.runs += 1
        return self.given

    def pool(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def colours(features: Tensor) -> Tensor:
    """`patch_components` of a (B, D, h, w) feature map."""
    return patch_components(Given(features), torch.zeros(len(features), 3, 8, 8))


def convolutional(classes: int = 7) -> EfficientNet:
    return EfficientNet(EfficientNetConfig(width=0.25, depth=0.25, classes=classes)).eval()


def random_attention(layers: int, heads: int, tokens: int) -> list[Tensor]:
    return [torch.randn(2, heads, tokens, tokens).mul(3).softmax(-1) for _ in range(layers)]


def test_rollout_is_the_product_of_half_attention_half_identity_last_layer_first():
    weights = random_attention(layers=3, heads=4, tokens=5)
    one, two, three = ((layer.double().mean(1) + torch.eye(5)) / 2 for layer in weights)
    torch.testing.assert_close(attention_rollout(weights), (three @ two @ one).float())
    assert not torch.allclose(attention_rollout(weights), (one @ two @ three).float(), atol=1e-3)


def test_rollout_by_hand():
    to_the_first = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    assert attention_rollout([to_the_first]).tolist() == [[[1.0, 0.0], [0.5, 0.5]]]
    assert attention_rollout([to_the_first, to_the_first]).tolist() == [[[1.0, 0.0], [0.75, 0.25]]]


def test_rollout_rows_say_what_a_token_is_made_of():
    rolled = attention_rollout(random_attention(layers=6, heads=2, tokens=9))
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 9))


def test_rollout_of_nothing_or_of_different_tokens_is_refused():
    with pytest.raises(ValueError, match="no attention weights"):
        attention_rollout([])
    with pytest.raises(ValueError, match="one set of tokens"):
        attention_rollout([torch.ones(1, 2, 4, 4), torch.ones(1, 2, 5, 5)])


def test_a_transformer_that_attends_to_what_is_bright_looked_there():
    model = ViT(replace(SMALL, width=4, heads=1, depth=1)).eval()
    with torch.no_grad():
        for parameter in (model.positions, model.class_token, model.patchify.projection.weight):
            parameter.zero_()
        model.patchify.projection.weight[0] = 1 / 192  # the first channel of a patch is its brightness
        queries, keys, _ = model.blocks[0].attention.qkv.weight.chunk(3)
        queries.zero_(), keys.zero_()
        model.blocks[0].attention.qkv.bias[:4] = 1  # every token asks the same:
        keys[:, 0] = 5  # who is bright?
    pixels = torch.zeros(2, 3, 32, 32)
    pixels[0, :, 8:16, 24:32] = 1
    pixels[1, :, 24:32, 0:8] = 1
    expected = torch.zeros(2, 4, 4)
    expected[0, 1, 3] = expected[1, 3, 0] = 1
    torch.testing.assert_close(where_it_looked(model, pixels), expected)


@pytest.mark.parametrize(
    ("model", "read"),
    [
        (ViT(SMALL), lambda rows: rows[:, 0, 1:]),
        (ViT(replace(SMALL, pooling="mean")), lambda rows: rows[:, 1:, 1:].mean(1)),
        (DeiT(DeiTConfig(32, 8, width=24, depth=3, heads=3, mlp_width=48, classes=7)), lambda rows: rows[:, 0, 2:]),
        (
            DINOv2(DINOv2Config(32, 8, width=24, depth=3, heads=3, mlp_width=48, registers=4, pooling="class+mean")),
            lambda rows: (rows[:, 0, 5:] + rows[:, 5:, 5:].mean(1)) / 2,
        ),
    ],
    ids=["class", "mean", "distilled", "class and mean, registers"],
)
def test_the_map_of_a_transformer_is_what_its_head_reads(model, read):
    pixels = torch.randn(2, 3, 24, 40)
    with torch.no_grad(), watch_attention(model.eval()) as weights:
        model(pixels)
    expected = read(attention_rollout(weights))
    expected = (expected - expected.amin(1, keepdim=True)) / (expected.amax(1) - expected.amin(1))[:, None]
    torch.testing.assert_close(where_it_looked(model, pixels), expected.view(2, 3, 5))


def test_where_no_patch_stands_out_the_map_is_empty():
    model = ViT(SMALL).eval()
    with torch.no_grad():
        model.positions.zero_()
    assert where_it_looked(model, torch.full((1, 3, 32, 32), 0.3)).tolist() == [[[0.0] * 4] * 4]


def test_attention_that_is_not_over_all_patches_is_refused():
    model = Given(torch.zeros(1, 17, 24))
    model.patchify = ViT(SMALL).patchify
    with pytest.raises(VitrailError, match="cannot be rolled out"):
        where_it_looked(model, torch.zeros(1, 3, 32, 32))


def test_class_activation_before_a_linear_head_is_cam():
    model, pixels = convolutional(), torch.randn(2, 3, 160, 96)
    with torch.no_grad():
        features = model.features(pixels)
    cam = torch.einsum("k,bkhw->bhw", model.head.weight[3], features).relu()  # Zhou et al. 2016, eq. 2
    heat = class_activation(model, pixels, 3)
    assert heat.shape == (2, 5, 3)
    assert heat.dtype == torch.float32
    torch.testing.assert_close(heat, (cam / cam.amax((1, 2), keepdim=True)).detach(), rtol=1e-4, atol=1e-5)


def test_class_activation_follows_the_gradient_through_any_head():
    class Squared(nn.Module):
        def forward(self, pooled: Tensor) -> Tensor:
            return torch.stack([pooled.square().sum(1), -pooled[:, 0]], dim=1)

    features = torch.rand(1, 4, 3, 3)
    model = Given(features)
    model.head = Squared()
    expected = (features.mean((2, 3), keepdim=True) * features).sum(1)
    heat = class_activation(model, torch.zeros(1), 0)
    torch.testing.assert_close(heat, expected / expected.max())
    assert class_activation(model, torch.zeros(1), 1).max() == 0  # everything speaks against it


def test_a_convolutional_network_without_a_head_looks_at_what_resembles_the_whole():
    model, pixels = convolutional(classes=0), torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        features = model.features(pixels)
    alike = (features.mean((2, 3), keepdim=True) * features).sum(1).relu()
    torch.testing.assert_close(where_it_looked(model, pixels), alike / alike.max(), rtol=1e-4, atol=1e-5)


def test_the_class_is_the_likeliest_or_the_one_asked_for():
    model, pixels = convolutional(), torch.randn(3, 3, 96, 96)
    with torch.no_grad():
        best = model(pixels).argmax(1)
    assert torch.equal(where_it_looked(model, pixels), where_it_looked(model, pixels, best))
    mixed = where_it_looked(model, pixels, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(mixed[1:2], class_activation(model, pixels[1:2], 1), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="no class 7: the network's classes are 0 to 6"):
        where_it_looked(model, pixels, 7)


def test_class_activation_wants_a_feature_map():
    with pytest.raises(VitrailError, match="convolutional"):
        class_activation(ViT(SMALL).eval(), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("build", [convolutional, lambda: ViT(SMALL).eval()], ids=["convolutional", "transformer"])
def test_explaining_leaves_no_trace_and_runs_in_inference_mode(build):
    model = build()
    with torch.inference_mode():
        pixels = torch.randn(1, 3, 96, 96)
        heat = where_it_looked(model, pixels)
    assert not heat.requires_grad
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    torch.testing.assert_close(heat, where_it_looked(model, pixels.clone()))


def test_explain_asks_the_network_once_for_both():
    model = Given(torch.rand(2, 8, 4, 4))
    pixels = torch.zeros(2, 3, 8, 8)
    explanation = explain(model, pixels)
    assert model.runs == 1
    assert explanation.method == "class activation"
    assert torch.equal(explanation.heat, where_it_looked(model, pixels))
    assert torch.equal(explanation.components, patch_components(model, pixels))
    assert explain(ViT(SMALL).eval(), torch.zeros(1, 3, 32, 32)).method == "attention rollout"


def test_alike_patches_get_the_same_colour():
    kinds = torch.randn(3, 16)
    which = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 1], [2, 2, 2, 0]])
    seen = colours(kinds[which].permute(2, 0, 1)[None])[0]
    assert seen.shape == (3, 4, 3)
    of_kind = [seen[which == kind] for kind in range(3)]
    for same in of_kind:
        torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=1e-4)
    assert all((of_kind[a][0] - of_kind[b][0]).abs().max() > 0.2 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_components_are_those_of_an_eigendecomposition():
    features = torch.randn(1, 6, 5, 4) * torch.tensor([9.0, 5, 3, 1, 1, 1])[:, None, None]
    vectors = features[0].flatten(1).T.double()
    vectors = vectors - vectors.mean(0)
    scores = vectors @ torch.linalg.eigh(vectors.T @ vectors)[1].flip(1)[:, :3]
    expected = (scores / scores.std(0, correction=0) / 4).float()
    seen = colours(features)[0].view(-1, 3) - 0.5
    for component in range(3):
        one, other = seen[:, component], expected[:, component]
        sign = other[other.abs().argmax()].sign()
        torch.testing.assert_close(one, (sign * other).clamp(-0.5, 0.5), rtol=1e-3, atol=1e-4)


def test_components_do_not_depend_on_scale_offset_or_axes():
    features = torch.randn(1, 8, 5, 5)
    turned = torch.linalg.qr(torch.randn(8, 8))[0]
    changed = torch.einsum("de,behw->bdhw", turned, features) * 40 + 7
    torch.testing.assert_close(colours(changed), colours(features), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_constant_features_have_no_colour(value):
    assert (colours(torch.full((1, 32, 6, 7), value)) == 0.5).all()


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (1, 8, 1, 2), (1, 2, 4, 4), (1, 1, 1, 1)])
def test_fewer_than_three_components_are_no_trouble(shape):
    seen = colours(torch.randn(shape))
    assert seen.shape == (1, *shape[2:], 3)
    assert seen.isfinite().all()
    assert (seen[..., 2] == 0.5).all()


def test_a_picture_is_coloured_whatever_stands_beside_it():
    features = torch.randn(3, 8, 4, 4)
    torch.testing.assert_close(colours(features)[1:2], colours(features[1:2]), rtol=1e-3, atol=1e-4)


def test_prefix_tokens_have_no_colour():
    model = DINOv2(DINOv2Config(32, 8, width=24, depth=1, heads=3, mlp_width=48, registers=4)).eval()
    pixels = torch.randn(1, 3, 16, 40)
    with torch.no_grad():
        patches = model.features(pixels)[:, 5:]
    torch.testing.assert_close(patch_components(model, pixels), colours(patches.mT.unflatten(2, (2, 5))))


def test_a_real_network_finds_the_espresso_in_its_cup():
    model = vitrail.load("efficientnet-lite0")
    pixels = model.preprocess(EXAMPLES / "coffee.jpg")
    espresso = model.labels.index("espresso")
    heat = where_it_looked(model, pixels, espresso)[0]
    row, column = divmod(int(heat.argmax()), heat.shape[1])
    assert row in (1, 2, 3)  # of 7: where the coffee stands in the cup
    assert column in (2, 3, 4)
    assert heat[5:].mean() < heat[1:4, 2:5].mean() / 2  # and not on the saucer below


def test_a_phrase_map_is_the_cosine_of_patches_and_text():
    model = tiny_clip()
    pixels = model.preprocess([EXAMPLES / "cat.jpg", EXAMPLES / "coffee.jpg"])
    found = phrase_map(model, pixels, "a cat")
    assert found.shape == (2, 4, 4)
    assert found.dtype == torch.float32
    with torch.no_grad():
        patches = model.image.projection(model.features(pixels)[:, 1:]).view(2, 4, 4, 24)
        text = model.encode_text("a cat")[0]
        expected = nn.functional.cosine_similarity(patches, text.expand_as(patches), dim=-1)
    torch.testing.assert_close(found, expected)
    both = explain(model, pixels, phrases=["dog", "a cat"]).phrases
    torch.testing.assert_close(both[:, 1], found)
    assert not torch.allclose(both[:, 0], found, atol=1e-3)


def test_a_phrase_map_has_the_rows_and_columns_of_the_picture():
    picture = torch.zeros(1, 3, 16, 48)
    picture[0, 1, 8:, 40:] = 1  # green in the last corner
    found = phrase_map(Colours(), picture, "green")
    assert found.shape == (1, 2, 6)
    assert found[0, 1, 5] == pytest.approx(1)
    assert found.sum() == pytest.approx(1)


def test_a_network_that_has_no_map_of_phrases_says_so():
    with pytest.raises(UsageError, match="this vit has no text tower"):
        phrase_map(ViT(SMALL).eval(), torch.zeros(1, 3, 32, 32), "a cat")

    class Blind(Colours):
        patch_vectors = None

    with pytest.raises(UsageError, match="this colours has no vectors for patches"):
        phrase_map(Blind(), torch.zeros(1, 3, 32, 32), "a cat")


def test_a_clip_looks_where_its_class_token_gathers():
    model, pixels = tiny_clip(), torch.randn(2, 3, 32, 48)
    with torch.no_grad(), watch_attention(model) as weights:
        model.encode_image(pixels)
    expected = attention_rollout(weights)[:, 0, 1:]
    lowest, highest = expected.amin(1, keepdim=True), expected.amax(1, keepdim=True)
    torch.testing.assert_close(
        where_it_looked(model, pixels), ((expected - lowest) / (highest - lowest)).view(2, 4, 6), rtol=1e-4, atol=1e-5
    )
