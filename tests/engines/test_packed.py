"""The packed engine says what eager says, however its weights change, and leaves training and saving alone."""

import copy

import pytest
import torch
from torch import nn

from tests.engines.small import packable
from vitrail.engines import prepare
from vitrail.engines.packed import Packed, PackedConvolution, PackedLinear, PackedMLP, pack
from vitrail.errors import UsageError
from vitrail.models.vit import ViT, ViTConfig
from vitrail.nn.convolution import ConvolutionNorm
from vitrail.nn.mlp import MLP


def network() -> ViT:
    model = ViT(ViTConfig(image_size=32, patch_size=8, width=96, depth=2, heads=3, mlp_width=200, classes=7)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@packable
def test_it_says_what_eager_says():
    plain = network()
    packed = copy.deepcopy(plain)
    assert prepare(packed, "packed") == "packed float32"
    pictures = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        assert relative(packed(pictures), plain(pictures)) < 1e-5
    packers = [module.forward for module in packed.modules() if isinstance(module.forward, Packed)]
    assert {type(packer) for packer in packers} == {PackedLinear, PackedConvolution, PackedMLP}
    ups = [block.mlp.up for block in packed.blocks]  # whose product is the MLP's
    assert all(packer.packed is not None for packer in packers if packer.module not in ups)  # it did run packed


@packable
def test_bfloat16_is_as_near_to_float32_as_eager_bfloat16_is():
    plain = network()
    pictures = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        exact = plain(pictures)
        eager = copy.deepcopy(plain).bfloat16()
        packed = copy.deepcopy(plain).bfloat16()
        prepare(packed, "auto")
        near = relative(eager(pictures.bfloat16()).float(), exact)
        assert relative(packed(pictures.bfloat16()).float(), exact) < 2 * near + 1e-3


@packable
@pytest.mark.parametrize("change", ["in place", "replaced", "loaded", "double"])
def test_a_changed_weight_is_packed_again(change):
    linear, x = nn.Linear(48, 32), torch.randn(5, 48)
    pack(nn.Sequential(linear))
    with torch.no_grad():
        linear(x)
        if change == "in place":
            linear.weight.mul_(2)
        elif change == "replaced":
            linear.weight = nn.Parameter(torch.randn(32, 48))
        elif change == "loaded":
            linear.load_state_dict({"weight": torch.randn(32, 48), "bias": torch.randn(32)})
        else:
            linear.double()  # no packed form: the plain product
            x = x.double()
        torch.testing.assert_close(linear(x), nn.functional.linear(x, linear.weight, linear.bias), rtol=1e-5, atol=1e-5)


@packable
def test_gradients_flow_and_the_state_is_untouched():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepare(model, "packed")
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@packable
def test_a_copy_packs_its_own_weights():
    model = network()
    prepare(model, "packed")
    pictures = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        first = model(pictures)
        twin = copy.deepcopy(model)
        assert isinstance(twin.head.forward, PackedLinear)
        assert twin.head.forward.module is twin.head
        twin.head.weight.zero_()
        torch.testing.assert_close(twin(pictures), twin.head.bias.expand(1, -1))
        torch.testing.assert_close(model(pictures), first)


@packable
@pytest.mark.parametrize("act", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_half_of_an_mlp_is_one_product(act, dtype):
    torch.manual_seed(0)
    plain = MLP(48, 96, act=act).eval()
    packed = copy.deepcopy(plain).to(dtype)
    pack(nn.Sequential(packed))
    tokens = torch.randn(2, 7, 48)
    with torch.no_grad():
        expected, found = plain(tokens), packed(tokens.to(dtype)).float()
        assert packed.forward.packed is not None
        assert relative(found, expected) < (1e-5 if dtype == torch.float32 else 2e-2)
        twin = copy.deepcopy(packed)
        twin.up.weight.zero_()
        assert relative(packed(tokens.to(dtype)).float(), found) == 0
        assert torch.equal(twin(tokens.to(dtype))[0, 0], twin(tokens.to(dtype))[1, 3])
    assert packed(tokens.to(dtype)).grad_fn is not None


@packable
def test_an_mlp_whose_first_half_is_replaced_or_watched_runs_as_it_is():
    mlp, tokens, seen = MLP(48, 96), torch.randn(2, 48), []
    pack(nn.Sequential(mlp))
    with torch.no_grad():
        mlp(tokens)
        handle = mlp.up.register_forward_hook(lambda module, inputs, output: seen.append(output))
        mlp(tokens)
        assert len(seen) == 1
        handle.remove()
        mlp.up = nn.Sequential(nn.Linear(48, 96))
        expected = nn.functional.linear(nn.functional.gelu(mlp.up(tokens)), mlp.down.weight, mlp.down.bias)
        torch.testing.assert_close(mlp(tokens), expected, rtol=1e-5, atol=1e-5)
    relus = MLP(48, 96, act="relu")
    pack(nn.Sequential(relus))
    assert not isinstance(relus.forward, PackedMLP)


@packable
def test_a_packed_product_that_strays_is_not_used(monkeypatch):
    """A fault of the library or the machine, injected: the weight comes back wrong from being laid out."""
    right = torch.ops.mkldnn._reorder_linear_weight
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", lambda weight, size: right(weight * 1.01, size))
    linear, x = nn.Linear(48, 32), torch.randn(2, 5, 48)
    pack(nn.Sequential(linear))
    with torch.no_grad():
        assert torch.equal(linear(x), nn.functional.linear(x, linear.weight, linear.bias))
        assert linear.forward.packed is None


@packable
def test_shapes_that_are_odd():
    linear = nn.Linear(7, 3, bias=False)
    pack(nn.Sequential(linear))
    with torch.no_grad():
        for shape in ((7,), (0, 7), (1, 7), (2, 0, 7), (2, 3, 4, 7)):
            x = torch.randn(shape)
            torch.testing.assert_close(linear(x), nn.functional.linear(x, linear.weight), rtol=1e-5, atol=1e-6)
        strided = torch.randn(7, 5).t()
        torch.testing.assert_close(linear(strided), nn.functional.linear(strided, linear.weight), rtol=1e-5, atol=1e-6)


@packable
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "how",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2, "bias": False},
        {"kernel_size": (1, 5), "padding": (0, 4), "dilation": (1, 2)},
        {"kernel_size": 1},
        {"kernel_size": 9},
    ],
)
def test_convolutions(how, layout):
    convolution = nn.Conv2d(5, 7, **how)
    twin = copy.deepcopy(convolution)
    pack(nn.Sequential(convolution))
    with torch.no_grad():
        for shape in ((2, 5, 11, 13), (1, 5, 9, 9), (3, 5, 20, 12)):
            x = torch.randn(shape).to(memory_format=layout)
            torch.testing.assert_close(convolution(x), twin(x), rtol=1e-5, atol=1e-5)
        assert convolution.forward.packed is not None  # it did run packed
        torch.testing.assert_close(convolution(x[0]), twin(x[0]), rtol=1e-5, atol=1e-5)  # a picture without a batch
        convolution.weight.mul_(2)
        torch.testing.assert_close(convolution(x), twin(x) + twin(x) - bias_of(twin), rtol=1e-5, atol=1e-5)
    convolution(x).sum().backward()
    assert convolution.weight.grad is not None


def bias_of(convolution: nn.Conv2d) -> torch.Tensor:
    return torch.zeros(1) if convolution.bias is None else convolution.bias[:, None, None]


@packable
def test_convolutions_that_are_left_alone():
    class Own(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return -super().forward(input)

    model = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
        Own(4, 4, 3),
        nn.ConvTranspose2d(4, 4, 3),
        nn.Conv1d(4, 4, 3),
    )
    pack(model)
    assert not any("forward" in vars(module) for module in model)


@packable
def test_a_packed_convolution_that_strays_is_not_used(monkeypatch):
    """A fault of the library or the machine, injected: the weight comes back wrong from being laid out."""
    right = torch.ops.mkldnn._reorder_convolution_weight
    monkeypatch.setattr(
        torch.ops.mkldnn, "_reorder_convolution_weight", lambda weight, *how: right(weight * 1.01, *how)
    )
    convolution, x = nn.Conv2d(6, 5, 3), torch.randn(2, 6, 12, 12)
    pack(nn.Sequential(convolution))
    assert isinstance(convolution.forward, PackedConvolution)
    with torch.no_grad():
        plain = nn.functional.conv2d(x, convolution.weight, convolution.bias)
        assert torch.equal(convolution(x), plain)
        assert convolution.forward.packed is None


def test_engines_that_do_not_exist_or_cannot_run_are_refused():
    with pytest.raises(UsageError, match="no engine 'turbo'; there are auto, eager, packed"):
        prepare(network(), "turbo")
    with pytest.raises(UsageError, match="not float64 on cpu"):
        prepare(network().double(), "packed")
    assert prepare(network().double(), "auto") == "eager float64"


def trained(module: ConvolutionNorm) -> ConvolutionNorm:
    """With statistics and weights that are not those of the start."""
    norm = module.norm
    for tensor in (norm.running_mean, norm.bias, norm.weight):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return module.eval()


@packable
@pytest.mark.parametrize("act", [None, "relu", "relu6", "silu"])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 1, 12), (3, 2, 12), (5, 2, 12), (3, 2, 1)])
@pytest.mark.parametrize("padding", ["symmetric", "trailing", "same"])
@pytest.mark.parametrize("size", [(16, 16), (15, 18), (5, 4)])
def test_norm_and_activation_are_in_the_convolution(act, kernel, stride, groups, padding, size):
    torch.manual_seed(0)
    module = trained(ConvolutionNorm(12, 24, kernel, stride=stride, groups=groups, padding=padding, act=act))
    plain = copy.deepcopy(module)
    pack(nn.Sequential(module))
    images = torch.randn(2, 12, *size)
    with torch.inference_mode():
        expected = plain(images)
        torch.testing.assert_close(module(images), expected, rtol=1e-5, atol=1e-5)
        assert module.forward.packed is not None
        torch.testing.assert_close(module(images[:, :, :-1]), plain(images[:, :, :-1]), rtol=1e-5, atol=1e-5)
        module.bfloat16()
        near = relative(copy.deepcopy(plain).bfloat16()(images.bfloat16()).float(), expected)
        assert relative(module(images.bfloat16()).float(), expected) < 2 * near + 1e-2


@packable
@pytest.mark.parametrize("change", ["weight", "mean", "variance", "scale", "shift", "replaced"])
def test_a_changed_norm_is_packed_again(change):
    module = trained(ConvolutionNorm(4, 8, 3, act="relu"))
    pack(nn.Sequential(module))
    images, norm = torch.randn(1, 4, 9, 9), module.norm
    with torch.no_grad():
        before = module(images)
        {
            "weight": lambda: module.convolution.weight.mul_(2),
            "mean": lambda: norm.running_mean.add_(1),
            "variance": lambda: norm.running_var.mul_(3),
            "scale": lambda: norm.weight.mul_(2),
            "shift": lambda: norm.bias.add_(1),
            "replaced": lambda: setattr(module, "norm", nn.Identity()),
        }[change]()
        after = module(images)
        assert not torch.allclose(before, after, atol=1e-3)
        torch.testing.assert_close(after, module.act(module.norm(module.convolution(images))), rtol=1e-5, atol=1e-5)


@packable
def test_a_norm_in_training_or_watched_is_left_to_itself():
    module, images, seen = trained(ConvolutionNorm(4, 8, 3, act="relu")), torch.randn(2, 4, 9, 9), []
    pack(nn.Sequential(module))
    with torch.no_grad():
        module.train()
        module(images)
        assert module.norm.num_batches_tracked == 1
        module.eval()
        module(images)
        module.norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
        module(images)
    assert len(seen) == 1
    assert module(images).grad_fn is not None
