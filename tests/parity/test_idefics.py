"""IDEFICS gives the reference's numbers and texts from the reference's files, and goes back into them."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from transformers import AutoTokenizer, IdeficsConfig, IdeficsForVisionText2Text, IdeficsProcessor, LlamaTokenizer
from transformers.models.idefics.image_processing_pil_idefics import IdeficsImageProcessorPil
from transformers.models.idefics.processing_idefics import (
    image_attention_mask_for_packed_input_ids,
    incremental_to_binary_attention_mask,
)

import vitrail
from tests.parity.references import (
    TRANSFORMERS_FORMS,
    assert_same,
    assert_same_files,
    assert_same_tensors,
    load_transformers,
    randomise,
    save_transformers,
)
from tests.parity.writing import SEARCHES, lively
from tests.pictures import noise, odd_pictures, photograph
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.idefics_transformers import IdeficsTransformers
from vitrail.checkpoints.preprocessors import from_transformers, to_transformers
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import standard
from vitrail.models.clip import CLIPImageConfig
from vitrail.models.flamingo import Flamingo, FlamingoConfig, ResamplerConfig
from vitrail.models.gpt2 import GPT2Config
from vitrail.models.language_model import Turn
from vitrail.models.llama import LlamaConfig
from vitrail.models.vit import ViTConfig
from vitrail.text.decoding import left_pad

VOCABULARY, AROUND, PICTURE = 60, 60, 61
SMALL = {
    "vocab_size": VOCABULARY,
    "additional_vocab_size": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "cross_layer_interval": 2,
    "qk_layer_norms": True,
    "use_resampler": True,
    "max_position_embeddings": 64,
    "vision_config": {
        "embed_dim": 24,
        "image_size": 28,
        "patch_size": 7,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "perceiver_config": {
        "use_resampler": True,
        "resampler_n_latents": 5,
        "resampler_depth": 2,
        "resampler_n_heads": 3,
        "resampler_head_dim": 7,
        "qk_layer_norms_perceiver": True,
    },
}
ODD: dict[str, dict] = {
    "plain": {},
    "no resampler": {"use_resampler": False, "perceiver_config": None},
    "no norms of queries and keys": {"qk_layer_norms": False, "perceiver_config": {"qk_layer_norms_perceiver": False}},
    "gates of channels, in every layer": {
        "alpha_type": "vector",
        "alpha_initializer": "ones",
        "cross_layer_interval": 1,
    },
    "another token": {"additional_vocab_size": 3},
    "tied": {"tie_word_embeddings": True},
    "other numbers": {
        "rms_norm_eps": 1e-2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "eos_token_id": [2, 7],
        "vision_config": {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-2},
    },
}
TEXTS = [  # "p" shows a picture
    ["p", 5, "p", 8, 9, 10, "p", 11, 12, 13],
    [1, 4, 5, "p", 6],
    [1, 4, 5, 6, 7, 8],
    [1, 4, "p", 6, 3, "p", "p", 5],
]


def reference_model(odd: str = "plain", shake=randomise) -> IdeficsForVisionText2Text:
    """A small IdeficsForVisionText2Text with random weights, its gates wide open."""
    sections = {
        name: {**SMALL[name], **section} if isinstance(section := ODD[odd].get(name, {}), dict) else section
        for name in ("vision_config", "perceiver_config")
    }
    reference = shake(IdeficsForVisionText2Text(IdeficsConfig(**{**SMALL, **ODD[odd], **sections})))
    with torch.no_grad():
        for layer in reference.model.gated_cross_attn_layers:
            layer.alpha_cross_attn.add_(0.8)
            layer.alpha_dense.add_(0.3)
    return reference


def interleaved(texts: list[list[int | str]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids and mask of texts filled up on their left, their pictures, and the reference's mask of who sees which."""
    ids, mask = left_pad([[PICTURE if part == "p" else part for part in text] for text in texts], 0)
    most = max(1, max(text.count("p") for text in texts))
    pixels = torch.zeros(len(texts), most, 3, 28, 28)
    for row, text in enumerate(texts):
        pixels[row, : text.count("p")] = torch.randn(text.count("p"), 3, 28, 28)
    tokens = SimpleNamespace(convert_tokens_to_ids=lambda token: PICTURE, eos_token_id=2)
    last, _ = image_attention_mask_for_packed_input_ids(ids, tokens, "pt")
    return ids, mask, pixels, incremental_to_binary_attention_mask(last, "pt", num_classes=most)


def reference_logits(reference, ids: Tensor, mask: Tensor, pixels: Tensor, sees: Tensor) -> Tensor:
    return reference(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels, image_attention_mask=sees).logits


@pytest.mark.parametrize(
    ("odd", "form"), [*((odd, "published") for odd in ODD), *(("plain", form) for form in TRANSFORMERS_FORMS[1:])]
)
@torch.inference_mode()
def test_transformers(odd, form, tmp_path):
    """Texts of different lengths with three, one, no and three pictures, in one batch and one by one."""
    reference = reference_model(odd)
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    ids, mask, pixels, sees = interleaved(TEXTS)
    expected = reference_logits(reference, ids, mask, pixels, sees)
    assert model.family == "flamingo"
    assert not model.training
    assert_same(model(pixels, ids, mask)[mask], expected[mask])
    for text in TEXTS:
        alone, everywhere, shown, sees_them = interleaved([text])
        theirs = reference_logits(reference, alone, everywhere, shown, sees_them)
        assert_same(model(shown if "p" in text else None, alone), theirs)

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(IdeficsForVisionText2Text, tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(reference_logits(back, ids, mask, pixels, sees)[mask], expected[mask])


@torch.inference_mode()
def test_what_a_text_sees_of_a_picture(tmp_path):
    for odd in ("plain", "no resampler"):
        reference = reference_model(odd)
        model = vitrail.load(save_transformers(reference, tmp_path / odd))
        images = torch.randn(2, 3, 28, 28)
        tokens = reference.model.vision_model(images).last_hidden_state
        expected = tokens if odd == "no resampler" else reference.model.perceiver_resampler(tokens)
        assert_same(model.features(images), expected)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@torch.inference_mode()
def test_texts(search, tmp_path):
    """The network writes picture tokens, too, which show nothing new."""
    reference = reference_model(shake=lively)
    model = vitrail.load(save_transformers(reference, tmp_path))
    ids, mask, pixels, sees = interleaved(TEXTS)
    expected = reference.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        pixel_values=pixels,
        image_attention_mask=sees,
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=2,
        **search,
    )
    written = model.generate(pixels, ids, max_new_tokens=12, mask=mask, **search)
    assert written.tolist() == expected.tolist()
    new = written[:, ids.shape[1] :]
    assert (new == PICTURE).any()
    assert len({tuple(row) for row in new.tolist()}) == len(TEXTS)


def test_what_is_saved_has_the_names_that_are_published(tmp_path):
    save_transformers(reference_model(), tmp_path / "published")
    vitrail.save(vitrail.load(tmp_path / "published"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@torch.inference_mode()
def test_numbers_that_old_versions_saved_are_left_alone(tmp_path):
    folder = save_transformers(reference_model(), tmp_path / "old")
    state = load_file(folder / "model.safetensors")
    for layer in ("model.layers.0.self_attn", "model.gated_cross_attn_layers.1.cross_attn"):
        state[f"{layer}.rotary_emb.inv_freq"] = torch.rand(4)
    state["model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(state, folder / "model.safetensors")
    assert vitrail.load(folder)(None, torch.tensor([[1, 4]])).shape == (1, 2, 62)


@pytest.mark.parametrize("name", IdeficsTransformers.published)
def test_published_sizes(name):
    """The numbers are those of the config.json on the hub; the tensors, those that transformers makes of them."""
    layout, config = IdeficsTransformers(), IdeficsTransformers.published[name].config
    large, instructed = "80b" in name, "instruct" in name
    said = {
        "additional_vocab_size": 3 if instructed else 2,
        "cross_layer_interval": 4,
        "hidden_size": 8192 if large else 4096,
        "intermediate_size": 22016 if large else 11008,
        "num_attention_heads": 64 if large else 32,
        "num_hidden_layers": 80 if large else 32,
        "rms_norm_eps": 1e-5 if large else 1e-6,
        "qk_layer_norms": True,
        "use_resampler": True,
        "perceiver_config": {"qk_layer_norms_perceiver": True},
        "vision_config": {"embed_dim": 1280},
    }
    assert layout.read_config(Description({"model_type": "idefics", **said})) == config
    if large:  # which has the same tensors, only more of them
        return
    with torch.device("meta"):
        reference, model = IdeficsForVisionText2Text(IdeficsConfig(**said)), Flamingo(config)
    assert {name: tensor.shape for name, tensor in to_theirs(layout, model).items()} == {
        name: tensor.shape for name, tensor in reference.state_dict().items()
    }


def test_the_defaults_of_transformers_are_ours():
    layout = IdeficsTransformers()
    silent = layout.read_config(Description({"model_type": "idefics"}))
    assert silent == layout.read_config(Description(IdeficsConfig().to_dict()))
    said = Description({"model_type": "idefics", "use_resampler": True, "perceiver_config": {}})
    assert layout.read_config(said).resampler == replace(ResamplerConfig(), qk_norm=False)


SMALL_IMAGE = CLIPImageConfig(image_size=28, patch_size=7, width=24, depth=1, heads=2, mlp_width=40)
SMALL_TEXT = LlamaConfig(vocabulary=60, context=64, width=32, depth=2, heads=4, kv_heads=4, mlp_width=48)


@pytest.mark.parametrize(
    ("image", "text", "reason"),
    [
        (
            ViTConfig(image_size=28, patch_size=7, width=24, depth=1, heads=2, mlp_width=40),
            SMALL_TEXT,
            "CLIP's picture",
        ),
        (SMALL_IMAGE, GPT2Config(60, 64, 32, 2, 4, 48, end=2), "and a LLaMA"),
        (SMALL_IMAGE, replace(SMALL_TEXT, kv_heads=2), "the first LLaMA and no later one"),
    ],
)
def test_what_the_layout_cannot_say(image, text, reason, tmp_path):
    model = Flamingo(FlamingoConfig(image, text, None, every=1, picture=61))
    model.preprocess = standard(28)
    with pytest.raises(vitrail.CheckpointError, match=reason):
        vitrail.save(model, tmp_path / "no", layout="transformers")


def test_gates_of_another_kind():
    with pytest.raises(vitrail.CheckpointError, match="'float' or 'vector', not 'matrix'"):
        IdeficsTransformers().read_config(Description({"model_type": "idefics", "alpha_type": "matrix"}))


# preprocessing


def by_transformers(processor, picture) -> Tensor:
    return processor(picture, return_tensors="pt").float()


@pytest.mark.parametrize("kind", odd_pictures())
def test_the_processor_on_every_picture(kind):
    picture = odd_pictures()[kind]
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else picture
    ours = from_transformers({}, "IdeficsImageProcessor")(picture)
    assert torch.equal(ours, by_transformers(IdeficsImageProcessorPil(), given_to_reference))


def test_the_preprocessing_of_a_folder(tmp_path):
    save_transformers(reference_model(), tmp_path / "theirs")
    assert vitrail.load(tmp_path / "theirs").preprocess.output_size == (28, 28)  # where no file says how
    published = {"image_size": 30, "image_mean": [0.5, 0.4, 0.3], "image_num_channels": 3}
    published["image_processor_type"] = "IdeficsImageProcessor"
    (tmp_path / "theirs" / "preprocessor_config.json").write_text(json.dumps(published))
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    for folder in ("theirs", "back"):
        processor = IdeficsImageProcessorPil.from_pretrained(tmp_path / folder)
        assert torch.equal(model.preprocess(photograph()), by_transformers(processor, photograph()))
    again = IdeficsImageProcessorPil(**to_transformers(model.preprocess, "IdeficsImageProcessor"))
    assert torch.equal(model.preprocess(photograph()), by_transformers(again, photograph()))


# prompts


def llama_tokenizer(*more: str) -> LlamaTokenizer:
    """LLaMA's kind of tokenizer, trained on a few words, with IDEFICS' tokens behind the vocabulary."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Backend(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.pre_tokenizer = Metaspace(split=True)
    words = ["Question: what is this? Answer:", "User: Assistant: Caption: Describe this image.", "a red cat"]
    backend.train_from_iterator(words, BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False))
    said = json.loads(backend.to_str())["model"]
    added = ["<fake_token_around_image>", "<image>", *more]
    return LlamaTokenizer(
        vocab=said["vocab"],
        merges=[tuple(pair) for pair in said["merges"]],
        pad_token="<unk>",
        additional_special_tokens=added,
    )


def checkpoint(folder: Path, *more: str) -> tuple[IdeficsForVisionText2Text, IdeficsProcessor]:
    """A folder with weights, tokenizer and preprocessing, and what the reference has in it."""
    tokenizer = llama_tokenizer(*more)
    vocabulary = len(tokenizer) - 2 - len(more)
    assert tokenizer.convert_tokens_to_ids("<image>") == vocabulary + 1
    sizes = {"vocab_size": vocabulary, "additional_vocab_size": 2 + len(more), "max_position_embeddings": 128}
    reference = lively(IdeficsForVisionText2Text(IdeficsConfig(**{**SMALL, **sizes})))
    with torch.no_grad():
        for layer in reference.model.gated_cross_attn_layers:
            layer.alpha_cross_attn.add_(0.8)
    processor = IdeficsProcessor(IdeficsImageProcessorPil(image_size=28), tokenizer)
    save_transformers(reference, folder)
    tokenizer.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    return reference, processor


EOU = "<end_of_utterance>"
CONVERSATIONS: dict[str, tuple[list[Turn], list[str], list[str]]] = {  # and what the base and the instructed read
    "one question": (
        [Turn("what is this?", 1)],
        ["p", "Question: what is this? Answer:"],
        ["User:", "p", f"what is this?{EOU}\nAssistant:"],
    ),
    "a caption": ([Turn("", 1)], ["p", "Caption:"], ["User:", "p", f"Describe this image.{EOU}\nAssistant:"]),
    "no picture": (
        [Turn("what is a cat?")],
        ["Question: what is a cat? Answer:"],
        [f"User: what is a cat?{EOU}\nAssistant:"],
    ),
    "an example": (
        [Turn("what is this?", 1), Turn("a red cat", by="model"), Turn("is it red?", 1)],
        ["p", "Question: what is this? Answer: a red cat\n", "p", "Question: is it red? Answer:"],
        [
            *("User:", "p", f"what is this?{EOU}\nAssistant: a red cat{EOU}\nUser:"),
            *("p", f"is it red?{EOU}\nAssistant:"),
        ],
    ),
    "several pictures at once": (
        [Turn("same?", 2), Turn("no", by="model"), Turn("why?")],
        ["p", "p", "Question: same? Answer: no\nQuestion: why? Answer:"],
        ["User:", "p", "p", f"same?{EOU}\nAssistant: no{EOU}\nUser: why?{EOU}\nAssistant:"],
    ),
}


@pytest.mark.parametrize("taught", [False, True])
@torch.inference_mode()
def test_prompts_are_the_processor_s(taught, tmp_path):
    reference, processor = checkpoint(tmp_path / "theirs", *([EOU] if taught else []))
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    back = vitrail.load(tmp_path / "back")
    words = AutoTokenizer.from_pretrained(tmp_path / "back")
    again = IdeficsProcessor(IdeficsImageProcessorPil.from_pretrained(tmp_path / "back"), words)
    for turns, base, instructed in CONVERSATIONS.values():
        items = instructed if taught else base
        pictures = [noise(40, 30, seed=seed) for seed in range(items.count("p"))]
        shown = iter(pictures)
        said = {
            "text": [[next(shown) if item == "p" else item for item in items]],
            "add_end_of_utterance_token": False,  # which stands where it belongs
            "return_tensors": "pt",
        }
        theirs = processor(**said)
        prompt = model.prompt(turns, [open_picture(picture) for picture in pictures])
        assert prompt.ids.tolist() == theirs["input_ids"].tolist() == again(**said)["input_ids"].tolist()
        assert torch.equal(back.prompt(turns, [open_picture(picture) for picture in pictures]).ids, prompt.ids)
        if pictures:
            assert torch.equal(prompt.pixels, theirs["pixel_values"])
        assert_same(model(prompt.pixels, prompt.ids), reference(**theirs).logits)
        written = model.generate(prompt.pixels, prompt.ids, max_new_tokens=8)
        ends = list(model.ends)
        assert written.tolist() == reference.generate(**theirs, max_new_tokens=8, eos_token_id=ends).tolist()


def test_the_picture_token_is_the_tokenizer_s(tmp_path):
    """Wherever it stands; without a tokenizer it is the second token behind LLaMA's."""
    reference, _ = checkpoint(tmp_path)
    vocabulary = reference.config.vocab_size
    assert vitrail.load(tmp_path).config.picture == vocabulary + 1
    said = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in said["added_tokens"]:
        swapped = {"<image>": "<fake_token_around_image>", "<fake_token_around_image>": "<image>"}
        token["content"] = swapped.get(token["content"], token["content"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    assert vitrail.load(tmp_path).config.picture == vocabulary
    (tmp_path / "tokenizer.json").unlink()
    assert vitrail.load(tmp_path).config.picture == vocabulary + 1
