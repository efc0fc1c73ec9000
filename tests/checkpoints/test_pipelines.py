"""Folders of parts: which files are read and fetched, and what is said of broken ones."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler

import vitrail
from tests import pipelines
from vitrail.errors import CheckpointError
from vitrail.models.ddpm_pipeline import DDPMPipeline


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    """A small DDPM, the safest of folders."""
    folder = tmp_path_factory.mktemp("ddpm")
    pipelines.ddpm(folder).save_pretrained(folder / "whole")
    return folder / "whole"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A small Stable Diffusion."""
    folder = tmp_path_factory.mktemp("told")
    pipelines.stable_diffusion(folder).save_pretrained(folder / "whole")
    return folder / "whole"


def weight(model: DDPMPipeline) -> torch.Tensor:
    return model.network.input.weight


@pytest.mark.parametrize("form", ["fp16", "bin", "sharded", "sharded fp16", "beside the index"])
def test_forms_of_a_folder(form, ddpm, tmp_path):
    pipeline, expected = pipelines.ddpm(tmp_path), weight(vitrail.load(ddpm))
    variant = "fp16" if "fp16" in form else None
    if variant:
        pipeline.unet.half()
    sharded = {"max_shard_size": "20KB"} if "sharded" in form else {}
    pipeline.save_pretrained(tmp_path / "it", variant=variant, safe_serialization=form != "bin", **sharded)
    if form == "beside the index":  # google/ddpm-cifar10-32 is such a one
        for file in [*(tmp_path / "it").glob("*/*.*")]:
            shutil.move(file, tmp_path / "it" / file.name)
        for folder in ("unet", "scheduler"):
            (tmp_path / "it" / folder).rmdir()
    model = vitrail.load(tmp_path / "it")
    assert isinstance(model, DDPMPipeline)
    assert weight(model).dtype == torch.float32
    torch.testing.assert_close(weight(model), expected, rtol=0, atol=1e-3 if variant else 0)


def test_half_precision_is_taken_where_it_is_wanted(ddpm, tmp_path):
    pipeline = pipelines.ddpm(tmp_path)
    shutil.copytree(ddpm, tmp_path / "it")
    with torch.no_grad():
        pipeline.unet.conv_in.weight.fill_(0.5)
    pipeline.unet.half().save_pretrained(tmp_path / "it" / "unet", variant="fp16")
    assert (weight(vitrail.load(tmp_path / "it", dtype=torch.bfloat16)) == 0.5).all()
    assert (weight(vitrail.load(tmp_path / "it")) != 0.5).all()


def test_one_part_of_a_folder(ddpm):
    assert vitrail.load(ddpm / "unet").family == "ddpm"


def test_only_what_is_needed_is_fetched(told, hub):
    shutil.copytree(told, hub.folder)
    for name in ("safety_checker", "feature_extractor"):
        (hub.folder / name).mkdir()
        (hub.folder / name / "model.safetensors").write_bytes(b"not to be read")
    shutil.copy(hub.folder / "unet" / "diffusion_pytorch_model.safetensors", hub.folder / "v1-5-pruned.safetensors")
    pipelines.stable_diffusion(hub.folder / "x").unet.half().save_pretrained(hub.folder / "unet", variant="fp16")
    model = vitrail.load("some/vit")
    fetched = {path.removeprefix("/some/vit/resolve/main/") for path in hub.asked if "README" not in path}
    weights = {path for path in fetched if path.endswith((".safetensors", ".bin"))}
    assert weights == {
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    }
    assert not any(path.startswith(("safety", "feature")) for path in fetched)
    assert model.family == "stable-diffusion"
    assert model.tokenizer is not None

    assert vitrail.load("some/vit/vae").family == "autoencoder-kl"

    hub.asked.clear()
    vitrail.load("some/vit", dtype=torch.float16)
    assert any(path.endswith("unet/diffusion_pytorch_model.fp16.safetensors") for path in hub.asked)

    hub.shutdown()
    hub.server_close()
    assert vitrail.load("some/vit").config == model.config  # from the cache: the hub is gone


def change(folder, file, **said):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda it: (it / "unet" / "config.json").unlink(), "the part 'unet' of this StableDiffusionPipeline has no c"),
        (lambda it: (it / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "the part 'vae' .* has no weights"),
        (lambda it: shutil.rmtree(it / "scheduler"), "has no scheduler_config.json"),
        (lambda it: change(it, "model_index.json", text_encoder=[None, None]), "has no 'text_encoder', and Vitrail kn"),
        (lambda it: change(it, "model_index.json", _class_name="FluxPipeline"), "of no kind that Vitrail knows .Flux"),
        (lambda it: change(it, "scheduler/scheduler_config.json", _class_name="X"), "a scheduler 'X' is not one that"),
        (lambda it: change(it, "scheduler/scheduler_config.json", prediction_type="y"), "'prediction_type' 'y' is not"),
        (lambda it: change(it, "scheduler/scheduler_config.json", beta_start="y"), "makes no sense: chain.beta_start"),
        (lambda it: change(it, "vae/config.json", latent_channels=8), "has 'vae.encoder.conv_out.weight' of shape"),
        (lambda it: (it / "model_index.json").write_text("{"), "cannot be read as JSON"),
    ],
)
def test_broken_folders(break_it, says, told, tmp_path):
    shutil.copytree(told, tmp_path / "it")
    break_it(tmp_path / "it")
    with pytest.raises(CheckpointError, match=says):
        vitrail.load(tmp_path / "it")


def test_a_pipeline_without_a_tokenizer_is_not_written(told, tmp_path):
    model = vitrail.load(told)
    model.tokenizer = None
    with pytest.raises(CheckpointError, match="saved together with its tokenizer"):
        vitrail.save(model, tmp_path / "it", layout="diffusers")
    assert not (tmp_path / "it").exists()


def test_another_sampler_is_written_as_its_scheduler(ddpm, tmp_path):
    pipeline = pipelines.ddpm(tmp_path)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    assert (model.usual.sampler, model.usual.num_steps) == ("ddim", 50)
    vitrail.save(model, tmp_path / "back")
    assert json.loads((tmp_path / "back" / "model_index.json").read_text())["scheduler"] == [
        "diffusers",
        "DDIMScheduler",
    ]
