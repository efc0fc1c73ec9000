"""Latent diffusion from texts: its shapes, what it reads, and how pictures follow from noise."""

import pytest
import torch

from vitrail.data.source import scaling
from vitrail.errors import UsageError
from vitrail.models.autoencoder_kl import AutoencoderKLConfig
from vitrail.models.clip import CLIPTextConfig
from vitrail.models.latent_diffusion import LatentDiffusion, LatentDiffusionConfig
from vitrail.models.text_dit import TextDiT, TextDiTConfig
from vitrail.text.train import train_tokenizer
from vitrail.training.family import last_token

PROMPTS = ["a red frog", "a cat on a mat", "青蛙"]


def tiny() -> LatentDiffusion:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(iter(PROMPTS * 5), 300, 12)
    size = tokenizer.backend.get_vocab_size()
    end = last_token(tokenizer)
    model = LatentDiffusion(
        LatentDiffusionConfig(
            image_size=16,
            autoencoder=AutoencoderKLConfig(
                image_size=16,
                latent_channels=4,
                widths=(8, 8, 16),
                depth=1,
                middle_attention=False,
                groups=4,
                scaling_factor=1.0,
            ),
            text=CLIPTextConfig(vocabulary=size, context=12, width=16, depth=1, heads=2, mlp_width=32, end=end),
            vector_width=8,
            denoiser=TextDiTConfig(
                grid=4,
                channels=4,
                patch_size=2,
                width=32,
                depth=2,
                heads=2,
                mlp_width=64,
                text_width=16,
                vector_width=8,
            ),
        )
    ).eval()
    for parameter in model.parameters():
        if not parameter.any():  # what starts at zero, so that it says something
            torch.nn.init.normal_(parameter, std=0.1)
    model.tokenizer, model.preprocess = tokenizer, scaling((16, 16))
    return model


def test_what_is_behind_the_end_of_a_text_changes_nothing():
    model = tiny()
    x, time = torch.randn(2, 4, 4, 4), torch.tensor([300.0, 800.0])
    ids = model.tokenizer(PROMPTS[:2])
    filled = ids.clone()
    ends = model.text.text.ends(ids)
    filled[0, int(ends[0]) + 1 :] = 7
    with torch.inference_mode():
        assert torch.allclose(model(x, time, ids), model(x, time, filled), atol=1e-6)
        told = model.read(ids)
        assert torch.allclose(model.denoise(x, time, **told), model(x, time, ids), atol=1e-6)
        other = model(x, time, model.tokenizer(["a red cat", "a cat on a mat"]))
    assert not torch.allclose(model(x, time, ids)[0], other[0], atol=1e-4)


def test_a_denoiser_at_no_noise_gives_back_what_it_sees():
    model = tiny()
    x = torch.randn(2, 4, 4, 4)
    with torch.inference_mode():
        clean = model.denoiser()(x, torch.full((2,), 1e-6), model.condition(PROMPTS[:2]))
    assert torch.allclose(clean, x, atol=1e-4)


def test_latents_are_scaled_and_back():
    model = tiny()
    model.latent_mean.copy_(torch.arange(4.0)[None, :, None, None])
    model.latent_deviation.fill_(2.0)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        latents = model.encode(images)
        plain = model.autoencoder.encode(images)
        assert torch.allclose(latents * 2 + torch.arange(4.0)[None, :, None, None], plain, atol=1e-5)
        assert torch.allclose(model.decode(latents), model.autoencoder.decode(plain), atol=1e-5)


def test_pictures_follow_from_prompt_and_seed():
    model = tiny()
    one = model.generate(PROMPTS[0], seed=3, num_steps=3)[0]
    same, other = model.generate(PROMPTS[0], seed=3, num_steps=3, count=2)
    assert one.size == (16, 16)
    assert one.tobytes() == same.tobytes() != other.tobytes()
    assert one.tobytes() != model.generate(PROMPTS[1], seed=3, num_steps=3)[0].tobytes()


def test_bad_input_is_a_sentence():
    model = tiny()
    with pytest.raises(UsageError, match="pictures of 16×16 pixels, and not of 24×16"):
        model.latent_shape((16, 24))
    with pytest.warns(UserWarning, match="longer than the"):
        model.condition(["a red frog on a mat " * 5])
    with pytest.raises(UsageError, match="'лягушка' is in letters that this network never read"):
        model.condition(["лягушка"])
    with pytest.warns(UserWarning, match="letters that the network hardly knows: é"):
        model.condition(["a frog été"])
    model.tokenizer = None
    with pytest.raises(UsageError, match="no tokenizer"):
        model.condition(["a frog"])
    with pytest.raises(ValueError, match="the denoiser's grid"):
        LatentDiffusionConfig(image_size=32)
    with pytest.raises(ValueError, match="patches of 3"):
        TextDiT(TextDiTConfig(patch_size=3))
