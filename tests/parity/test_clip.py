"""CLIP gives the references' numbers from the references' files, and goes back into them."""

import json
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.push_to_hf_hub import save_config_for_hf
from open_clip.transform import PreprocessCfg, image_transform_v2
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import vitrail
from tests.parity.references import (
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_transformers,
    randomise,
    save_transformers,
)
from tests.pictures import noise, odd_pictures, photograph
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.clip_open_clip import CLIPOpenCLIP, read_model_config
from vitrail.checkpoints.layouts.clip_transformers import CLIPTransformers
from vitrail.checkpoints.preprocessors import from_open_clip, from_transformers, to_open_clip, to_transformers
from vitrail.models.clip import CLIP
from vitrail.models.clip import CLIPConfig as OurConfig
from vitrail.text.train import train_tokenizer

VOCABULARY = 60
PICTURES = odd_pictures()

SMALL = {
    "vision_config": {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 96,
        "image_size": 35,
        "patch_size": 7,
    },
    "text_config": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 13,
        "eos_token_id": VOCABULARY - 1,
        "bos_token_id": VOCABULARY - 2,
    },
    "projection_dim": 24,
}
ODD: dict[str, dict] = {
    "plain": {},
    "LAION's gelu": {"vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "gelu"}},
    "two activations": {"text_config": {"hidden_act": "gelu_pytorch_tanh"}},
    "one channel": {"vision_config": {"num_channels": 1}},
    "large epsilons": {"vision_config": {"layer_norm_eps": 1e-2}, "text_config": {"layer_norm_eps": 1e-1}},
    "the end of old": {"text_config": {"eos_token_id": 2}},
    "an end that is not the highest": {"text_config": {"eos_token_id": 40}},
    "the sections of old": {},
}

SMALL_OPEN = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 35, "patch_size": 7, "width": 48, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 13, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2},
}
SMALL_RESNET = {"image_size": 64, "width": 8, "layers": [1, 2, 1, 1], "head_width": 32, "patch_size": None}
ODD_OPEN: dict[str, dict] = {
    "plain": {},
    "quick gelu": {"quick_gelu": True},
    "oblong": {"vision_cfg": {"image_size": [35, 21]}},
    "MLPs of odd widths": {"vision_cfg": {"mlp_ratio": 2.3334}, "text_cfg": {"mlp_ratio": 1.5}},
    "large epsilons": {"vision_cfg": {"norm_kwargs": {"eps": 0.1}}, "text_cfg": {"norm_kwargs": {"eps": 0.01}}},
    "an end that is not the highest": {"text_cfg": {"pool_type": "eos", "eos_id": 40}},
    "a vector of one for a scale": {"nonscalar_logit_scale": True},
    "dropped patches": {"vision_cfg": {"patch_dropout": 0.5}},
    "resnet": {"vision_cfg": SMALL_RESNET},
    "deeper resnet": {"vision_cfg": {**SMALL_RESNET, "layers": [2, 1, 1, 2]}, "quick_gelu": True},
}


def changed(config: dict, odd: dict) -> dict:
    """A config with some of its numbers, and of its sections', changed."""
    sections = {key: {**config[key], **value} for key, value in odd.items() if isinstance(value, dict)}
    return {**config, **odd, **sections}


def transformers_model(odd: str = "plain") -> CLIPModel:
    """A small CLIPModel with random weights."""
    config = changed(SMALL, ODD[odd])
    if odd == "the sections of old":
        config["text_config_dict"], config["text_config"] = config["text_config"], {"hidden_size": 16}
        config["vision_config_dict"], config["vision_config"] = config["vision_config"], None
    return randomise(CLIPModel(CLIPConfig(**config)))


def open_clip_model(odd: str = "plain") -> tuple[nn.Module, dict]:
    """A small model of open_clip with random weights and statistics, and its model_cfg."""
    config = changed(SMALL_OPEN, ODD_OPEN[odd])
    model = randomise(open_clip.CLIP(**config))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model, config


def save_open_clip(model: nn.Module, config: dict, folder: Path, **preprocess: object) -> Path:
    """What open_clip's push to the hub writes, but for the tokenizer."""
    folder.mkdir()
    set_model_preprocess_cfg(model, {**vars(PreprocessCfg()), "size": model.visual.image_size, **preprocess})
    save_config_for_hf(model, folder / "open_clip_config.json", config)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def load_open_clip(folder: Path, **how: object) -> nn.Module:
    """Load a folder in open_clip, which refuses tensors that are missing or left over."""
    return open_clip.create_model(f"local-dir:{folder}", **how).eval()


def texts(end: int = VOCABULARY - 1, context: int = 13) -> Tensor:
    """Three texts of different lengths, the first of them full, filled up behind their ends."""
    ids = torch.randint(3, 40, (3, context))
    for row, length in enumerate((context, 5, 2)):
        ids[row, length - 1] = end
        ids[row, length:] = 0 if row == 1 else end
    return ids


def pictures(channels: int = 3, height: int = 35, width: int = 35) -> Tensor:
    return torch.randn(2, channels, height, width)


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), ("plain", "sharded"), ("plain", "in memory")]
)
@torch.inference_mode()
def test_transformers(odd, form, tmp_path):
    reference = transformers_model(odd)
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    images = pictures(reference.config.vision_config.num_channels)
    end = reference.config.text_config.eos_token_id
    ids = texts(end if end > 2 else VOCABULARY - 1)
    expected = reference(input_ids=ids, pixel_values=images)
    assert model.family == "clip"
    assert not model.training
    assert_same(model.encode_image(images), reference.get_image_features(images).pooler_output)
    assert_same(model.encode_text(ids), reference.get_text_features(ids).pooler_output)
    assert_same(model(images, ids), expected.logits_per_image)
    assert_same(model.encode_text(ids, normalize=True), expected.text_embeds)
    tokens = reference.vision_model.post_layernorm(expected.vision_model_output.last_hidden_state)
    assert_same(model.features(images), tokens)
    assert_same(model.patch_vectors(model.features(images)), reference.visual_projection(tokens[:, 1:]))
    assert_same(model.text(ids), reference.text_model(ids).last_hidden_state)

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(CLIPModel, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(input_ids=ids, pixel_values=images).logits_per_image, expected.logits_per_image)


def test_what_is_saved_has_the_names_that_are_published(tmp_path):
    save_transformers(transformers_model(), tmp_path / "published")
    vitrail.save(vitrail.load(tmp_path / "published"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@torch.inference_mode()
def test_positions_that_old_versions_saved_are_left_alone(tmp_path):
    folder = save_transformers(transformers_model(), tmp_path / "old")
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(13)[None]
    save_file(state, folder / "model.safetensors")
    assert vitrail.load(folder).encode_text(texts()).shape == (3, 24)


@pytest.mark.parametrize("size", [(35, 35), (70, 70), (21, 21), (70, 35), (7, 49)])
@torch.inference_mode()
def test_other_sizes_in_transformers(size, tmp_path):
    reference = transformers_model()
    model = vitrail.load(save_transformers(reference, tmp_path))
    images = pictures(3, *size)
    expected = reference.get_image_features(images, interpolate_pos_encoding=True).pooler_output
    assert_same(model.encode_image(images), expected)


@pytest.mark.parametrize("odd", ODD_OPEN)
@torch.inference_mode()
def test_open_clip(odd, tmp_path):
    reference, config = open_clip_model(odd)
    model = vitrail.load(save_open_clip(reference, config, tmp_path / "theirs"))
    size = config["vision_cfg"]["image_size"]
    images = pictures(3, *(size if isinstance(size, list) else (size, size)))
    ids = texts(40 if odd == "an end that is not the highest" else VOCABULARY - 1)
    assert model.origin.layout == "open_clip"
    assert_same(model.encode_image(images), reference.encode_image(images))
    assert_same(model.encode_text(ids), reference.encode_text(ids))
    assert_same(model(images, ids), reference.get_logits(images, ids)[0])
    assert_same(model.encode_image(images, normalize=True), reference.encode_image(images, normalize=True))

    vitrail.save(model, tmp_path / "back")
    back = load_open_clip(tmp_path / "back")
    reference.logit_scale = nn.Parameter(reference.logit_scale.reshape(()))  # it is never written as a vector of one
    assert_same_tensors(back, reference)
    assert_same(back.get_logits(images, ids)[0], model(images, ids))


@pytest.mark.parametrize("size", [(70, 70), (21, 21), (49, 14)])
@torch.inference_mode()
def test_other_sizes_in_open_clip(size, tmp_path):
    """open_clip resizes positions when it loads, and not on the way."""
    save_open_clip(*open_clip_model(), tmp_path / "theirs")
    images = pictures(3, *size)
    reference = load_open_clip(tmp_path / "theirs", force_image_size=size)
    assert_same(vitrail.load(tmp_path / "theirs").encode_image(images), reference.encode_image(images))


@pytest.mark.parametrize("odd", ["plain", "resnet"])
@torch.inference_mode()
def test_the_engines_agree(odd, tmp_path):
    folder = save_open_clip(*open_clip_model(odd), tmp_path / "theirs")
    eager, chosen = vitrail.load(folder, engine="eager"), vitrail.load(folder)
    side = 35 if odd == "plain" else 64
    images, ids = pictures(3, side, side), texts()
    assert eager.origin.engine == "eager float32"
    assert_same(chosen(images, ids), eager(images, ids))


# from one library to the other


@torch.inference_mode()
def test_from_transformers_to_open_clip_and_back(tmp_path):
    reference = transformers_model()
    save_transformers(reference, tmp_path / "transformers")
    changed_fields = vitrail.convert(tmp_path / "transformers", tmp_path / "open_clip", layout="open_clip")
    assert changed_fields.pop("image.antialias") == (False, True)  # how positions are interpolated, should they be
    assert changed_fields.keys() <= {"preprocess"}  # a margin may be rounded otherwise
    images, ids = pictures(), texts()
    expected = reference(input_ids=ids, pixel_values=images).logits_per_image
    assert_same(load_open_clip(tmp_path / "open_clip").get_logits(images, ids)[0], expected)
    vitrail.convert(tmp_path / "open_clip", tmp_path / "back", layout="transformers")
    assert_same_files(tmp_path / "transformers", tmp_path / "back")
    assert_same_tensors(load_transformers(CLIPModel, tmp_path / "back"), reference)


@torch.inference_mode()
def test_from_open_clip_to_transformers_and_back(tmp_path):
    reference, config = open_clip_model("quick gelu")
    save_open_clip(reference, config, tmp_path / "open_clip")
    vitrail.convert(tmp_path / "open_clip", tmp_path / "transformers", layout="transformers")
    images, ids = pictures(), texts()
    theirs = load_transformers(CLIPModel, tmp_path / "transformers")
    assert_same(theirs(input_ids=ids, pixel_values=images).logits_per_image, reference.get_logits(images, ids)[0])
    vitrail.convert(tmp_path / "transformers", tmp_path / "back", layout="open_clip")
    assert_same_tensors(load_open_clip(tmp_path / "back"), reference)


@pytest.mark.parametrize("odd", ["plain", "resnet"])
@torch.inference_mode()
def test_through_vitrail_s_own_layout(odd, tmp_path):
    reference, config = open_clip_model(odd)
    save_open_clip(reference, config, tmp_path / "open_clip")
    assert vitrail.convert(tmp_path / "open_clip", tmp_path / "ours.safetensors", layout="vitrail") == {}
    assert vitrail.load(tmp_path / "ours.safetensors").config == read_model_config(config)
    assert vitrail.convert(tmp_path / "ours.safetensors", tmp_path / "back", layout="open_clip") == {}
    assert_same_tensors(load_open_clip(tmp_path / "back"), reference)


@pytest.mark.parametrize(
    ("odd", "layout", "reason"),
    [
        ("resnet", "transformers", "has no ResNet"),
        ("oblong", "transformers", "square pictures"),
        ("two activations", "open_clip", "gelu or quick_gelu in both towers, not gelu_tanh and quick_gelu"),
        ("one channel", "open_clip", "3 channels, not 1"),
    ],
)
def test_what_the_other_layout_has_no_words_for(odd, layout, reason, tmp_path):
    if layout == "open_clip":
        save_transformers(transformers_model(odd), tmp_path / "theirs")
    else:
        save_open_clip(*open_clip_model(odd), tmp_path / "theirs")
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.convert(tmp_path / "theirs", tmp_path / "other", layout=layout)
    assert not (tmp_path / "other").exists()


# what is published


@pytest.mark.parametrize("name", CLIPOpenCLIP.published)
def test_published_sizes_of_open_clip(name):
    layout, config = CLIPOpenCLIP(), open_clip.get_model_config(name)
    assert layout.published[name].config == read_model_config(config)
    with torch.device("meta"):
        model, reference = CLIP(layout.published[name].config), open_clip.CLIP(**config)
    theirs = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in to_theirs(layout, model).items()} == theirs


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("openai/clip-vit-base-patch32", "ViT-B-32-quickgelu"),
        ("openai/clip-vit-base-patch16", "ViT-B-16-quickgelu"),
        ("openai/clip-vit-large-patch14", "ViT-L-14-quickgelu"),
        ("openai/clip-vit-large-patch14-336", "ViT-L-14-336-quickgelu"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32"),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "ViT-H-14"),
        ("laion/CLIP-ViT-g-14-laion2B-s12B-b42K", "ViT-g-14"),
        ("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "ViT-bigG-14"),
    ],
)
def test_published_sizes_of_transformers(name, same):
    """They are the same networks as open_clip's, whose numbers are at hand; their names are those of a CLIPModel."""
    layout, config = CLIPTransformers(), CLIPTransformers.published[name].config
    of_open_clip = read_model_config(open_clip.get_model_config(same))
    assert replace(of_open_clip, image=replace(of_open_clip.image, antialias=False)) == config
    with torch.device("meta"):
        model = CLIP(config)
        model.preprocess = from_transformers({}, "CLIPImageProcessor")
        reference = CLIPModel(CLIPConfig(**layout.write_config(model)))
    theirs = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in to_theirs(layout, model).items()} == theirs


def test_every_published_size_is_tested():
    assert len(CLIPTransformers.published) == 8


def test_the_defaults_of_transformers_are_ours():
    silent = CLIPTransformers().read_config(Description({"model_type": "clip"}))
    said = CLIPTransformers().read_config(Description(CLIPConfig().to_dict()))
    assert silent == said
    assert replace(silent, text=replace(silent.text, end=None)) == OurConfig()


OTHERS = {
    "roberta-ViT-B-32": "hf_model_name 'roberta-base'",
    "xlm-roberta-base-ViT-B-32": "hf_model_name 'xlm-roberta-base'",
    "convnext_base": "timm_model_name 'convnext_base'",
    "EVA02-B-16": "custom_text 'True'",
    "MobileCLIP-B": "custom_text 'True'",
    "ViT-B-16-SigLIP": "init_logit_bias '-10'",
    "PE-Core-B-16": "custom_text 'True'",
    "coca_ViT-B-32": "multimodal_cfg",
    "ViT-L-14-CLIPA": "no_ln_pre 'True'",
    "ViT-M-16-alt": "ls_init_value '0.0001'",
}


@pytest.mark.parametrize("name", OTHERS)
def test_open_clip_s_other_networks_are_refused(name):
    with pytest.raises(vitrail.CheckpointError, match=f"{OTHERS[name]}, and Vitrail reads open_clip's plain CLIPs"):
        read_model_config(open_clip.get_model_config(name))


def test_open_clip_s_other_plain_networks_are_read():
    for name in ("ViT-B-16-plus-240", "ViT-S-32", "ViT-e-14", "ViT-H-14-378-quickgelu", "RN50", "ViT-L-16-320"):
        config = open_clip.get_model_config(name)
        assert read_model_config(config).width == config["embed_dim"]
    assert read_model_config(open_clip.get_model_config("ViT-H-14-worldwide")).text.end == 2


# preprocessing


def by_transformers(processor, picture):
    return processor(picture, return_tensors="pt")["pixel_values"].float()


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs), f"{tuple(ours.shape)}: they differ by up to {(ours - theirs).abs().max()}"


@pytest.mark.parametrize("kind", PICTURES)
def test_transformers_processor(kind):
    reference = CLIPImageProcessorPil()
    preprocess = from_transformers(reference.to_dict())
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else PICTURES[kind]
    assert_equal(preprocess(PICTURES[kind]), by_transformers(reference, given_to_reference))


@pytest.mark.parametrize(
    "config",
    [
        {"feature_extractor_type": "CLIPFeatureExtractor", "size": 30, "crop_size": 30, "resample": 3},
        {"image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 40}, "crop_size": 33},
        {"size": {"shortest_edge": 24}, "crop_size": {"height": 31, "width": 20}, "do_convert_rgb": True},
    ],
)
def test_transformers_files(config, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    reference = CLIPImageProcessorPil.from_pretrained(tmp_path)
    preprocess = from_transformers(config, "CLIPImageProcessor")
    for picture in (photograph(), noise(47, 61), noise(30, 90), noise(20, 20)):
        assert_equal(preprocess(picture), by_transformers(reference, picture))
    again = CLIPImageProcessorPil(**to_transformers(preprocess, "CLIPImageProcessor"))
    assert_equal(preprocess(photograph()), by_transformers(again, photograph()))


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_open_clip_on_every_picture(kind, resize_mode):
    """The reference is given pictures that are RGB already, as its own data sets give them."""
    reference = image_transform_v2(PreprocessCfg(size=80, resize_mode=resize_mode, fill_color=9), is_train=False)
    preprocess = from_open_clip({"resize_mode": resize_mode, "fill_color": 9}, (80, 80))
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else PICTURES[kind]
    expected = reference(given_to_reference.convert("RGB"))[None]
    assert_equal(preprocess(PICTURES[kind]), expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [(33, 33), (35, 70), (28, 20)])
def test_open_clip_with_every_setting(interpolation, resize_mode, size):
    said = {
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.1),
        "interpolation": interpolation,
        "resize_mode": resize_mode,
        "fill_color": 100,
    }
    reference = image_transform_v2(PreprocessCfg(size=size, **said), is_train=False)
    preprocess = from_open_clip(said, size)
    for picture in (photograph(), noise(47, 61), noise(30, 90)):
        assert_equal(preprocess(picture), reference(picture)[None])
    again = image_transform_v2(PreprocessCfg(size=size, **to_open_clip(preprocess, size)), is_train=False)
    assert_equal(preprocess(photograph()), again(photograph())[None])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"interpolation": "lanczos"}, "interpolation in open_clip's preprocess_cfg is 'lanczos'"),
        ({"resize_mode": "crop"}, "resize_mode in open_clip's preprocess_cfg is 'crop'"),
        ({"fill_color": 300}, "fill_color"),
        ({"mode": "L"}, "mode"),
        ({"std": [0, 1, 1]}, "std"),
    ],
)
def test_open_clip_settings_that_make_no_sense(said, reason):
    with pytest.raises(vitrail.CheckpointError, match=reason):
        from_open_clip(said, (32, 32))


@pytest.mark.parametrize("odd", ["plain", "oblong", "resnet"])
def test_the_preprocessing_of_a_folder(odd, tmp_path):
    reference, config = open_clip_model(odd)
    save_open_clip(reference, config, tmp_path / "theirs", mean=(0.5, 0.5, 0.5), interpolation="bilinear")
    *_, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'theirs'}")
    model = vitrail.load(tmp_path / "theirs")
    assert_equal(model.preprocess(photograph()), transform(photograph())[None])
    vitrail.save(model, tmp_path / "back")
    *_, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'back'}")
    assert_equal(model.preprocess(photograph()), transform(photograph())[None])


def test_the_preprocessing_of_a_transformers_folder(tmp_path):
    reference = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size=35)
    save_transformers(transformers_model(), tmp_path / "theirs")
    assert vitrail.load(tmp_path / "theirs").preprocess.output_size == (35, 35)  # where no file says how
    reference.save_pretrained(tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    again = CLIPImageProcessorPil.from_pretrained(tmp_path / "back")
    for processor in (reference, again):
        assert_equal(model.preprocess(photograph()), by_transformers(processor, photograph()))


# tokenizers

ODD_TEXTS = [
    "A photo of a cat, isn't it?",
    "一只红色的猫",
    "🐸👩‍💻",
    "",
    "  tabs\tand\nlines  ",
    "12345 éÀ",
    "word " * 100,
]


def openai_files() -> dict[str, str]:
    """OpenAI's vocabulary, which open_clip ships, as CLIP's checkpoints have it in vocab.json and merges.txt."""
    said = open_clip.tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in said.encoder.items()}
    merges = "\n".join(" ".join(pair) for pair in said.bpe_ranks)
    return {"vocab.json": json.dumps(vocabulary), "merges.txt": f"#version: 0.2\n{merges}\n"}


def save_words(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@torch.inference_mode()
def test_openai_s_tokenizer(tmp_path):
    words = {"text_cfg": {"vocab_size": 49408, "width": 16, "layers": 1}}
    config = changed(SMALL_OPEN, words)
    reference = randomise(open_clip.CLIP(**config))
    save_words(save_open_clip(reference, config, tmp_path / "theirs"), openai_files())
    model = vitrail.load(tmp_path / "theirs")
    expected = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'theirs'}")(ODD_TEXTS)
    assert torch.equal(model.tokenizer(ODD_TEXTS), expected)
    assert_same(model.encode_text(ODD_TEXTS), reference.encode_text(expected))

    vitrail.save(model, tmp_path / "back")
    assert torch.equal(vitrail.load(tmp_path / "back").tokenizer(ODD_TEXTS), expected)
    assert torch.equal(open_clip.get_tokenizer(f"local-dir:{tmp_path / 'back'}")(ODD_TEXTS), expected)

    vitrail.convert(tmp_path / "theirs", tmp_path / "transformers", layout="transformers")
    ids = AutoTokenizer.from_pretrained(tmp_path / "transformers")(
        ODD_TEXTS, padding=True, truncation=True, return_tensors="pt"
    )
    theirs = load_transformers(CLIPModel, tmp_path / "transformers")
    assert_same(theirs.get_text_features(**ids).pooler_output, reference.encode_text(expected))
    assert_same(vitrail.load(tmp_path / "transformers").encode_text(ODD_TEXTS), reference.encode_text(expected))


@torch.inference_mode()
def test_a_tokenizer_trained_here(tmp_path):
    tokenizer = train_tokenizer(ODD_TEXTS, 300, 13)
    size, end = tokenizer.backend.get_vocab_size(), int(tokenizer("")[0, 1])
    words = {"text_cfg": {"vocab_size": size, "pool_type": "eos", "eos_id": end}}
    reference = randomise(open_clip.CLIP(**changed(SMALL_OPEN, words)))
    save_open_clip(reference, changed(SMALL_OPEN, words), tmp_path / "theirs")
    model = vitrail.load(tmp_path / "theirs")
    assert model.tokenizer is None  # open_clip's own is in its package
    model.tokenizer = tokenizer
    vitrail.save(model, tmp_path / "back")
    assert torch.equal(vitrail.load(tmp_path / "back").tokenizer(ODD_TEXTS), tokenizer(ODD_TEXTS))
    short = [text for text in ODD_TEXTS if "\t" not in text]  # open_clip, too, makes one space of many, but keeps none
    theirs = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'back'}")(short)
    assert torch.equal(theirs, tokenizer(short))
    assert_same(load_open_clip(tmp_path / "back").encode_text(theirs), model.encode_text(short))


def test_tokens_that_the_files_do_not_say(tmp_path):
    words = {"text_cfg": {"tokenizer_kwargs": {"clean": "canonicalize"}}}
    reference, _ = open_clip_model()
    save_words(save_open_clip(reference, changed(SMALL_OPEN, words), tmp_path / "theirs"), openai_files())
    assert vitrail.load(tmp_path / "theirs").tokenizer is None
