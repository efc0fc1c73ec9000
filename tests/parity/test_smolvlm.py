"""SmolVLM gives the reference's numbers and texts from the reference's files, and goes back into them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE, get_image_prompt_string

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
from tests.smol import END, PICTURE, VOCABULARY, smol_backend
from vitrail import registry
from vitrail.checkpoints.layout import Description, to_theirs
from vitrail.checkpoints.layouts.smolvlm_transformers import SmolVLM2Transformers, SmolVLMTransformers
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import HALF, Resize
from vitrail.imaging.tiles import TiledPreprocess
from vitrail.models.language_model import Turn
from vitrail.models.smolvlm import SmolVLM
from vitrail.models.smolvlm import SmolVLMConfig as OurConfig
from vitrail.text.decoding import left_pad

KINDS = {
    1: (Idefics3ForConditionalGeneration, Idefics3Config),
    2: (SmolVLMForConditionalGeneration, SmolVLMConfig),
}
TILE, TOKENS = 16, 4  # pixels of a tile's side, and the tokens it becomes
SMALL: dict[str, Any] = {
    "vision_config": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "image_size": TILE,
        "patch_size": 4,
    },
    "text_config": {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 80,
        "max_position_embeddings": 1000,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
        "eos_token_id": 2,
    },
    "scale_factor": 2,
    "image_token_id": PICTURE,
}
ODD: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "no shared keys": {"text_config": {"num_key_value_heads": 6, "rms_norm_eps": 1e-2}},
    "other pictures": {
        "vision_config": {"num_channels": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-2, "image_size": 24},
        "scale_factor": 3,
    },
}


def reference_model(odd: str = "plain", release: int = 1) -> Any:
    """A small network of the reference's with random weights."""
    said = {
        name: {**value, **ODD[odd].get(name, {})} if isinstance(value, dict) else ODD[odd].get(name, value)
        for name, value in {"tie_word_embeddings": False, **SMALL}.items()
    }
    kind, config = KINDS[release]
    reference = randomise(kind(config(**said)))
    with torch.no_grad():
        reference.get_output_embeddings().weight.normal_(std=0.5)  # so that texts do not soon repeat themselves
    return reference


def talk(reference: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Three prompts with 2, 1 and 5 tiles in places of their own: pixels, ids and mask."""
    vision, numbers = reference.config.vision_config, torch.Generator().manual_seed(1)
    counts = (2, 1, 5)
    pixels = torch.randn(3, 5, vision.num_channels, vision.image_size, vision.image_size, generator=numbers)
    rows = []
    for row, count in enumerate(counts):
        pixels[row, count:] = 0
        words = [torch.randint(3, 200, (int(length),), generator=numbers).tolist() for length in (3, 9 - row, 2)]
        first = count // 2
        rows.append(words[0] + [PICTURE] * TOKENS * first + words[1] + [PICTURE] * TOKENS * (count - first) + words[2])
    ids, mask = left_pad(rows, pad=0)
    return pixels, ids, mask


# the network


@pytest.mark.parametrize(
    ("odd", "form", "release"),
    [
        *((odd, "published", 1) for odd in ODD),
        ("plain", "sharded", 1),
        ("plain", "in memory", 1),
        ("tied", "published", 2),
    ],
)
@torch.inference_mode()
def test_a_model_of_transformers(odd, form, release, tmp_path):
    reference = reference_model(odd, release)
    model = vitrail.load(save_transformers(reference, tmp_path / "theirs", form))
    pixels, ids, mask = talk(reference)
    expected = reference(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels).logits
    assert model.family == "smolvlm"
    assert not model.training
    assert_same(model(pixels, ids, mask)[mask], expected[mask])
    assert_same(model.features(pixels[2]).flatten(0, 1), reference.get_image_features(pixels).pooler_output[2])

    vitrail.save(model, tmp_path / "back")
    back = load_transformers(KINDS[release][0], tmp_path / "back")
    assert_same_tensors(back, reference)
    assert_same(back(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels).logits, expected)
    assert back.generation_config.eos_token_id == 2
    for section in ("vision_config", "text_config"):
        ours, theirs = (vars(getattr(config, section)) for config in (back.config, reference.config))
        assert {name for name in SMALL[section] if ours[name] != theirs[name]} == set()
    for name in ("scale_factor", "image_token_id", "tie_word_embeddings"):
        assert getattr(back.config, name) == getattr(reference.config, name)


@pytest.mark.parametrize("release", KINDS)
def test_what_is_saved_has_the_names_that_are_published(release, tmp_path):
    save_transformers(reference_model(release=release), tmp_path / "published")
    vitrail.save(vitrail.load(tmp_path / "published"), tmp_path / "back")
    assert_same_files(tmp_path / "published", tmp_path / "back")


@torch.inference_mode()
def test_text_alone(tmp_path):
    reference = reference_model()
    model = vitrail.load(save_transformers(reference, tmp_path))
    ids = torch.randint(3, 200, (2, 9))
    assert_same(model(None, ids), reference(input_ids=ids).logits)


@pytest.mark.parametrize(("image_size", "sides"), [(384, (384, 126)), (512, (512, 448, 64))])
@torch.inference_mode()
def test_positions_are_fractions_of_the_picture(image_size, sides, tmp_path):
    """At 27 patches a row, as the largest have, they are rounded as the reference rounds them."""
    patch, shuffle = (14, 3) if image_size == 384 else (16, 4)
    small = {"image_size": image_size, "patch_size": patch, "hidden_size": 8, "intermediate_size": 8}
    config = Idefics3Config(**{**SMALL, "vision_config": {**SMALL["vision_config"], **small}, "scale_factor": shuffle})
    reference = randomise(Idefics3ForConditionalGeneration(config))
    reference.model.vision_model.embeddings.position_embedding.weight.normal_()
    model = vitrail.load(save_transformers(reference, tmp_path))
    for side in sides:
        pixels = torch.randn(1, 1, 3, side, side)
        assert_same(model.features(pixels[0])[0], reference.get_image_features(pixels).pooler_output[0])


@torch.inference_mode()
def test_through_vitrail_s_own_layout(tmp_path):
    reference = reference_model(release=2)
    save_transformers(reference, tmp_path / "theirs")
    assert vitrail.convert(tmp_path / "theirs", tmp_path / "ours.safetensors", layout="vitrail") == {}
    pixels, ids, mask = talk(reference)
    expected = reference(input_ids=ids, attention_mask=mask.long(), pixel_values=pixels).logits
    assert_same(vitrail.load(tmp_path / "ours.safetensors")(pixels, ids, mask)[mask], expected[mask])
    assert vitrail.convert(tmp_path / "ours.safetensors", tmp_path / "back", layout="transformers") == {}
    assert_same_files(tmp_path / "theirs", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text())["model_type"] == "smolvlm"


# what it writes


@pytest.mark.parametrize("how", [{}, {"num_beams": 3, "repetition_penalty": 1.2}])
@torch.inference_mode()
def test_generate(how, tmp_path):
    reference = reference_model()
    pixels, ids, mask = talk(reference)
    settings = reference.generation_config
    settings.eos_token_id, settings.pad_token_id = None, 0
    free = reference.generate(
        input_ids=ids, attention_mask=mask.long(), pixel_values=pixels, max_new_tokens=12, do_sample=False
    )
    end = int(free[0, ids.shape[1] + 5])  # so that a text ends
    reference.config.text_config.eos_token_id = end
    model = vitrail.load(save_transformers(reference, tmp_path))
    assert model.ends == (end,)
    settings.eos_token_id = settings.pad_token_id = end
    expected = reference.generate(
        input_ids=ids, attention_mask=mask.long(), pixel_values=pixels, max_new_tokens=12, do_sample=False, **how
    )
    written = model.generate(pixels, ids, mask=mask, max_new_tokens=12, **how)
    assert written.tolist() == expected.tolist()


# what is published


PARAMETERS = {
    "SmolVLM-256M-Instruct": 256_484_928,
    "SmolVLM-500M-Instruct": 507_482_304,
    "SmolVLM-Instruct": 2_246_272_880,
    "SmolVLM2-256M-Video-Instruct": 256_484_928,
    "SmolVLM2-500M-Video-Instruct": 507_482_304,
    "SmolVLM2-2.2B-Instruct": 2_246_784_880,
}
"""What the hub counts in the published files."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_sizes(name):
    found = registry.published(f"HuggingFaceTB/{name}")
    assert found is not None
    layout, entry = found
    kind, config = KINDS[entry.config.release]
    with torch.device("meta"):
        model = SmolVLM(entry.config)
        reference = kind(config(**layout.write_config(model)))
    theirs = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in to_theirs(layout, model).items()} == theirs
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    assert reference.model.image_seq_len == entry.config.tokens
    assert layout.read_config(Description(reference.config.to_dict())) == entry.config


def test_the_config_of_the_256m():
    """Its config.json, less what has nothing to do with the mathematics, in the older spelling of rotary positions."""
    said = {
        "image_token_id": 49190,
        "model_type": "idefics3",
        "scale_factor": 4,
        "text_config": {
            "architectures": ["VLlama3ForCausalLM"],
            "head_dim": 64,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "is_llama_config": True,
            "max_position_embeddings": 8192,
            "model_type": "llama",
            "num_attention_heads": 9,
            "num_hidden_layers": 30,
            "num_key_value_heads": 3,
            "pad_token_id": 2,
            "rms_norm_eps": 1e-05,
            "rope_theta": 100000,
            "vocab_size": 49280,
        },
        "tie_word_embeddings": False,
        "vision_config": {"hidden_size": 768, "image_size": 512, "num_attention_heads": 12, "patch_size": 16},
        "vocab_size": 49280,
    }
    config = SmolVLMTransformers().read_config(Description(said))
    assert config == OurConfig() == SmolVLMTransformers.published["HuggingFaceTB/SmolVLM-256M-Instruct"].config


@pytest.mark.parametrize("release", KINDS)
def test_the_defaults_of_transformers_are_ours(release):
    layout = {1: SmolVLMTransformers, 2: SmolVLM2Transformers}[release]()
    silent = layout.read_config(Description({"model_type": layout.model_type}))
    assert silent == layout.read_config(Description(KINDS[release][1]().to_dict()))


# preprocessing


def tiled(**how: Any) -> TiledPreprocess:
    plain = TiledPreprocess(
        Resize((TILE, TILE), resample=1), transparency="white", mean=HALF, std=HALF, longest=4 * TILE
    )
    return replace(plain, **how)


def processor(kind: Any = Idefics3ImageProcessorPil, **how: Any) -> Any:
    return kind(**{"size": {"longest_edge": 4 * TILE}, "max_image_size": {"longest_edge": TILE}, **how})


def assert_cut_alike(ours: TiledPreprocess, theirs: Any, picture: Any, given_to_reference: Any = None) -> None:
    expected = theirs(
        picture if given_to_reference is None else given_to_reference, return_tensors="pt", return_row_col_info=True
    )
    tiles = ours.tiles(picture)
    assert torch.equal(tiles.pixels, expected["pixel_values"][0].float())
    assert expected["pixel_attention_mask"].all()
    assert ([[tiles.rows]], [[tiles.columns]]) == (expected["rows"], expected["cols"])


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("kind", odd_pictures())
def test_the_processor_on_every_picture(kind, split):
    given_to_reference = photograph().convert("L") if kind == "16-bit grey" else None
    theirs = processor(do_image_splitting=split)
    assert_cut_alike(tiled(split=split), theirs, odd_pictures()[kind], given_to_reference)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (100, 100), (900, 130), (77, 501), (16, 16), (17, 16)])
def test_the_processor_on_every_shape(size):
    picture = noise(*size)
    assert_cut_alike(tiled(), processor(), picture)
    assert_cut_alike(tiled(longest=48), processor(size={"longest_edge": 48}), picture)
    assert_cut_alike(tiled(longest=TILE), processor(size={"longest_edge": TILE}), picture)
    assert_cut_alike(tiled(longest=None), processor(do_resize=False), picture)
    whole = processor(do_image_splitting=False)(picture, return_tensors="pt")["pixel_values"][0].float()
    assert torch.equal(tiled()(picture), whole)


def test_a_photograph_as_the_256m_sees_it():
    ours = tiled(resize=Resize((512, 512), resample=1), longest=2048)
    theirs = processor(size={"longest_edge": 2048}, max_image_size={"longest_edge": 512})
    assert_cut_alike(ours, theirs, photograph())


PUBLISHED = {  # HuggingFaceTB/SmolVLM-256M-Instruct
    "do_convert_rgb": True,
    "do_image_splitting": True,
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Idefics3ImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "max_image_size": {"longest_edge": 512},
    "processor_class": "Idefics3Processor",
    "resample": 1,
    "rescale_factor": 0.00392156862745098,
    "size": {"longest_edge": 2048},
}


@pytest.mark.parametrize(
    "said",
    [
        {**PUBLISHED, "size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 16}},
        {
            **PUBLISHED,
            "do_image_splitting": False,
            "max_image_size": {"longest_edge": 16},
            "size": {"longest_edge": 30},
        },
        {"max_image_size": {"longest_edge": 32}, "size": {"longest_edge": 96}, "resample": 3, "do_normalize": False},
        {"size": {"longest_edge": 91}, "do_resize": False, "image_mean": [0.1, 0.2, 0.3]},
    ],
)
@pytest.mark.parametrize("release", KINDS)
def test_published_files(said, release, tmp_path):
    layout = {1: SmolVLMTransformers, 2: SmolVLM2Transformers}[release]()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    kind = {1: Idefics3ImageProcessorPil, 2: SmolVLMImageProcessorPil}[release]
    preprocess = layout.read_preprocess(Description({}, said), OurConfig(release=release))
    written = layout.write_preprocess(preprocess)["preprocessor_config.json"]
    assert written["image_processor_type"] == kind.__name__.removesuffix("Pil")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "preprocessor_config.json").write_text(json.dumps(written))
    for folder in (tmp_path, tmp_path / "back"):
        reference = kind.from_pretrained(folder)
        for picture in (photograph().resize((150, 100)), noise(47, 61)):
            assert_cut_alike(preprocess, reference, picture)


# what is said


def processors(folder: Path) -> Idefics3Processor:
    """The reference's, for the small network, and its files in a folder."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=smol_backend(),
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    both = Idefics3Processor(processor(), tokenizer, image_seq_len=TOKENS, chat_template=DEFAULT_CHAT_TEMPLATE)
    both.save_pretrained(folder)
    return both


CONVERSATIONS: dict[str, list[Turn]] = {
    "a question": [Turn("What is on the table?", pictures=1)],
    "several pictures": [Turn("Which of them is\n\nred? ", pictures=3)],
    "no picture": [Turn("Hello\nyou")],
    "turns": [
        Turn("What is it?", pictures=1),
        Turn("A cat, 猫.", by="model"),
        Turn("And here?", pictures=2),
        Turn("", by="model"),
        Turn("Sure? "),
    ],
}


def in_the_reference_s_words(turns: list[Turn]) -> list[dict[str, Any]]:
    return [
        {
            "role": "user" if turn.by == "user" else "assistant",
            "content": [*[{"type": "image"}] * turn.pictures, {"type": "text", "text": turn.text}],
        }
        for turn in turns
    ]


@pytest.mark.parametrize(("name", "split"), [*((name, True) for name in CONVERSATIONS), ("turns", False)])
@torch.inference_mode()
def test_conversations(name, split, tmp_path):
    turns = CONVERSATIONS[name]
    shown = [photograph(), noise(40, 300), noise(64, 64)][: sum(turn.pictures for turn in turns)]
    reference = reference_model()
    save_transformers(reference, tmp_path / "theirs")
    both = processors(tmp_path / "theirs")
    both.image_processor.do_image_splitting = split
    both.image_processor.save_pretrained(tmp_path / "theirs")  # as preprocessor_config.json, which goes before
    model = vitrail.load(tmp_path / "theirs")
    vitrail.save(model, tmp_path / "back")
    text = both.apply_chat_template(in_the_reference_s_words(turns), add_generation_prompt=True)
    expected = both(text=text, images=shown or None, return_tensors="pt")
    for loaded in (model, vitrail.load(tmp_path / "back")):
        prompt = loaded.prompt(turns, list(map(open_picture, shown)))
        assert prompt.ids.tolist() == expected["input_ids"].tolist()
        assert loaded.tokenizer.decode(prompt.ids[0]) == both.tokenizer.decode(prompt.ids[0], skip_special_tokens=True)
        if shown:
            assert torch.equal(prompt.pixels, expected["pixel_values"].float())
        else:
            assert prompt.pixels is None
        assert loaded.ends == (END, 2)

    back = Idefics3Processor.from_pretrained(tmp_path / "back")  # what we wrote, in the reference
    assert back.apply_chat_template(in_the_reference_s_words(turns), add_generation_prompt=True) == text
    back.image_processor = Idefics3ImageProcessorPil.from_pretrained(tmp_path / "back")
    again = back(text=text, images=shown or None, return_tensors="pt")
    assert {key: again[key].tolist() for key in again} == {key: expected[key].tolist() for key in expected}
    assert (back.tokenizer.eos_token_id, back.tokenizer.pad_token_id) == (END, both.tokenizer.pad_token_id)

    written = reference.generate(**expected, max_new_tokens=8, do_sample=False, eos_token_id=list(model.ends))
    assert model.generate(prompt.pixels, prompt.ids, max_new_tokens=8).tolist() == written.tolist()


@pytest.mark.parametrize("size", [(64, 64), (300, 40), (30, 100), (5, 5)])
def test_smolvlm2_spells_pictures_as_we_do(size, tmp_path):
    """Its processor needs a package for the numbers of videos; what it writes for a picture is a function."""
    save_transformers(reference_model(release=2), tmp_path)
    processors(tmp_path)
    model = vitrail.load(tmp_path)
    for preprocess in (model.preprocess, replace(model.preprocess, split=False), replace(model.preprocess, longest=8)):
        model.preprocess = preprocess
        tiles = preprocess.tiles(noise(*size))
        spelled = get_image_prompt_string(
            tiles.rows, tiles.columns, TOKENS, "<fake_token_around_image>", "<image>", "<global-img>"
        )
        text = f"<|im_start|>User:{spelled}Why?<end_of_utterance>\nAssistant:"
        prompt = model.prompt([Turn("Why?", pictures=1)], [open_picture(noise(*size))])
        assert prompt.ids[0].tolist() == smol_backend().encode(text).ids


def test_a_tokenizer_that_has_no_pictures(tmp_path):
    reference = reference_model()
    reference.config.image_token_id = 7
    save_transformers(reference, tmp_path)
    processors(tmp_path)
    with pytest.raises(vitrail.CheckpointError, match="'<image>' as token 7"):
        vitrail.load(tmp_path)
