"""Flamingo by itself: what its gates promise, which picture a word looks at, what it learns and what it refuses."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import vitrail
from tests.pictures import noise
from vitrail.imaging.open import open_picture
from vitrail.imaging.preprocess import standard
from vitrail.models.clip import CLIPImageConfig
from vitrail.models.flamingo import Flamingo, FlamingoConfig, ResamplerConfig
from vitrail.models.gpt2 import GPT2Config
from vitrail.models.language_model import Turn
from vitrail.models.llama import LlamaConfig
from vitrail.models.vit import ViTConfig
from vitrail.text.tokenizer import Tokenizer
from vitrail.text.train import train_tokenizer

SMALL = {"width": 24, "depth": 2, "heads": 3, "mlp_width": 48}
PICTURE = 40
VIT = ViTConfig(image_size=16, patch_size=8, **SMALL)
CLIP = CLIPImageConfig(image_size=16, patch_size=8, **SMALL)
GPT = GPT2Config(vocabulary=40, context=30, width=32, depth=4, heads=4, mlp_width=64, end=39)
LLAMA = LlamaConfig(vocabulary=40, context=30, width=32, depth=4, heads=4, kv_heads=2, mlp_width=64, end=(39,))
FEW = ResamplerConfig(latents=3, depth=1, heads=2, head_width=8, qk_norm=False)
NANO = FlamingoConfig(VIT, GPT, FEW, every=2, qk_norm=False, new_tokens=1, picture=PICTURE)
CONFIGS = {
    "ViT and GPT-2": NANO,
    "CLIP and LLaMA": FlamingoConfig(CLIP, LLAMA, FEW, every=3, gates="channels", new_tokens=2, picture=41),
    "no resampler": replace(NANO, resampler=None, every=1),
    "a picture token of the language model": replace(NANO, new_tokens=0, picture=38),
}


def shaken(config: FlamingoConfig) -> Flamingo:
    """A network whose every number is random, its gates wide open."""
    model = Flamingo(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
        for layer in model.looks:
            layer.gate1.add_(1.0)
            layer.gate2.add_(0.5)
    return model


def pictures(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, 16, 16)


def text(config: FlamingoConfig, *parts: int | str) -> torch.Tensor:
    """Ids (1, N) of a text in which "p" shows a picture."""
    return torch.tensor([[config.picture if part == "p" else part for part in parts]])


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_at_the_start_it_says_what_the_language_model_says(name):
    torch.manual_seed(1)
    config = CONFIGS[name]
    model = Flamingo(config).eval()
    ids = text(config, 3, 4, "p", 5, 6, "p", 7)
    logits = model(pictures(1, 2), ids)
    assert logits.shape == (1, 7, config.text.vocabulary + config.new_tokens)
    torch.testing.assert_close(logits[:, :2, : config.text.vocabulary], model.text(None, ids[:, :2]))
    alone = model.text.head(_text_alone(model, ids))
    assert torch.equal(logits[..., : config.text.vocabulary], alone)
    for layer in model.looks:
        layer.gate1.fill_(0.5)
    assert not torch.allclose(model(pictures(1, 2), ids)[..., : config.text.vocabulary], alone)


def _text_alone(model: Flamingo, ids: torch.Tensor) -> torch.Tensor:
    """What the frozen language model makes of embedded ids of both vocabularies, by itself."""
    cache = model.text.start()
    positions, visible = cache.admit(ids)
    if isinstance(model.config.text, GPT2Config):
        return model.text.run(model.embed(ids) + model.text.positions(positions), cache, visible)
    return model.text.run(model.embed(ids), positions, cache, visible)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_each_word_looks_at_the_last_picture_before_it(name):
    """In the first layer, before words have looked at each other."""
    model = shaken(CONFIGS[name])
    ids = text(model.config, 3, "p", 4, 5, "p", "p", 6, "p", 7)
    owners = torch.tensor([-1, 0, 0, 0, 1, 2, 2, 3, 3])
    looked: list[torch.Tensor] = []
    model.looks[0].register_forward_hook(lambda module, given, out: looked.append(out))
    pixels = pictures(1, 4)
    model(pixels, ids)
    for number in range(4):
        other = pixels.clone()
        other[:, number] = pictures(1)
        model(other, ids)
        changed = ~torch.isclose(looked[-1], looked[0], atol=1e-6).all(-1)[0]
        assert torch.equal(changed, owners == number)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_text_before_a_picture_and_without_one(name):
    model = shaken(CONFIGS[name])
    ids = text(model.config, 3, 4, 5, "p", 6)
    logits = model(pictures(1, 1), ids)
    torch.testing.assert_close(model(None, ids[:, :3]), logits[:, :3], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(pictures(1, 1), ids)[:, 3:], logits[:, 3:], atol=1e-3)
    torch.testing.assert_close(model(pictures(1), text(model.config, "p", 6)).shape, logits[:, 3:].shape)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pieces", [[9], [4, 5], [1, 1, 3, 4], [1] * 9])
@torch.no_grad()
def test_reading_on_is_reading_at_once(name, pieces):
    model = shaken(CONFIGS[name])
    ids = text(model.config, 3, "p", 4, 5, "p", 6, 7, "p", 8).repeat(2, 1)
    pixels = pictures(2, 3)
    cache = model.start(pixels)
    read = [model.head(model.read(piece, cache)) for piece in ids.split(pieces, 1)]
    torch.testing.assert_close(torch.cat(read, 1), model(pixels, ids), atol=1e-5, rtol=1e-4)
    assert cache.memory["shown"].tolist() == [3, 3]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_a_batch_is_its_rows_one_by_one(name):
    """Of different lengths, with none to three pictures; what fills up is seen by nobody."""
    model = shaken(CONFIGS[name])
    texts = [("p", 4, 5, "p", 6, 7, "p", 8), (3, "p", 5, 6, 7), (3, 4, 5, 6), ("p", "p", 3)]
    rows = [text(model.config, *one) for one in texts]
    counts = [3, 1, 0, 2]
    pixels = torch.zeros(4, 3, 3, 16, 16)
    ids, mask = torch.full((4, 8), 2), torch.zeros(4, 8, dtype=torch.bool)
    for row, (one, count) in enumerate(zip(rows, counts, strict=True)):
        pixels[row, :count] = pictures(count)
        ids[row, 8 - one.shape[1] :] = one
        mask[row, 8 - one.shape[1] :] = True
    together = model(pixels, ids, mask)
    for row, (one, count) in enumerate(zip(rows, counts, strict=True)):
        alone = model(pixels[row : row + 1, :count] if count else None, one)
        torch.testing.assert_close(together[row : row + 1, 8 - one.shape[1] :], alone, atol=1e-5, rtol=1e-4)
    written = model.generate(pixels, ids, max_new_tokens=5, mask=mask)
    beams = model.generate(pixels, ids, max_new_tokens=5, num_beams=3, mask=mask)
    for row, (one, count) in enumerate(zip(rows, counts, strict=True)):
        shown = pixels[row : row + 1, :count] if count else None
        for many, beam in ((written, 1), (beams, 3)):
            new = model.generate(shown, one, max_new_tokens=5, num_beams=beam)[0, one.shape[1] :]
            assert many[row, 8 : 8 + len(new)].tolist() == new.tolist()


@torch.no_grad()
def test_writing_is_reading_again():
    model = shaken(NANO)
    ids, pixels = text(NANO, "p", 4, 5, "p", 6), pictures(1, 2)
    written = model.generate(pixels, ids, max_new_tokens=8)
    assert written.shape[1] > 5
    again = model(pixels, written[:, :-1])[:, 4:].argmax(-1)
    shown = (written == PICTURE).sum() > 2  # a picture token that is written shows nothing new
    assert shown or torch.equal(again, written[:, 5:])
    assert list(model.stream(pixels, ids, max_new_tokens=8)) == [one for one in written[0, 5:].tolist() if one != 39]


@torch.no_grad()
def test_a_picture_token_that_is_written_shows_nothing_new():
    model = shaken(NANO)
    pixels = pictures(1, 1)
    cache = model.start(pixels)
    model.read(text(NANO, "p", 4), cache)
    model.read(text(NANO, "p"), cache)
    assert cache.memory["shown"].tolist() == [1]


def test_what_learns_and_what_does_not():
    model = shaken(NANO)
    model.freeze()
    learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"resampler", "looks", "new_tokens"}
    assert not any(parameter.requires_grad for parameter in [*model.image.parameters(), *model.text.parameters()])
    model(pictures(2, 1), text(NANO, "p", 4, 5).repeat(2, 1)).logsumexp(-1).sum().backward()
    assert [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None] == []


def test_gates_that_are_held_stay():
    model = shaken(NANO)
    model.hold_gates(0.9)
    ids, pixels = text(NANO, "p", 4, 5), pictures(1, 1)
    model(pixels, ids).logsumexp(-1).sum().backward()
    for layer in model.looks:
        assert layer.gate1.tanh().item() == pytest.approx(0.9)
        assert layer.gate2.item() == 0
        assert not layer.gate1.requires_grad
        assert not layer.gate2.requires_grad
        assert layer.attention.out.weight.grad.abs().max() > 0


def test_it_learns_to_name_pictures_in_the_midst_of_a_text():
    """A frozen language model of random weights, which knows nothing, says the colour of each of two pictures."""
    torch.manual_seed(0)
    colours = torch.randn(4, 3)
    model = Flamingo(replace(NANO, text=replace(GPT, depth=2), every=1)).train()
    with torch.no_grad():
        model.text.tokens.weight.mul_(20)  # words that differ, as those of a language model that was trained
    model.freeze()
    frozen = {name: one.clone() for name, one in model.named_parameters() if not one.requires_grad}

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Texts "picture, which?, colour" twice, and their pictures."""
        which = torch.randint(4, (count, 2))
        pixels = colours[which][..., None, None] + 0.1 * torch.randn(count, 2, 3, 16, 16)
        shown, asked = torch.full((count, 2), PICTURE), torch.full((count, 2), 5)
        return pixels, torch.stack([shown, asked, 10 + which], 2).flatten(1), which

    optimiser = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=3e-3)
    losses = []
    for _ in range(120):
        pixels, ids, which = draw(32)
        logits = model(pixels, ids)[:, [1, 4]]
        loss = F.cross_entropy(logits.flatten(0, 1), 10 + which.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        pixels, ids, which = draw(200)
        right = (model(pixels, ids)[:, [1, 4]].argmax(-1) == 10 + which).float().mean().item()
        blind = (model(pixels.flip(1), ids)[:, [1, 4]].argmax(-1) == 10 + which).float().mean().item()
    assert losses[0] > 2
    assert sum(losses[-10:]) / 10 < 0.3
    assert right > 0.95  # where a guess is right in a quarter
    assert blind < 0.5  # with the pictures changed over
    assert all(layer.gate1.abs() > 0.01 for layer in model.looks)
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert torch.equal(parameter, frozen[name]), name


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_into_a_file_of_our_own_and_back(name, tmp_path):
    model = shaken(CONFIGS[name])
    model.preprocess = standard(16)
    vitrail.save(model, tmp_path / "flamingo.safetensors")
    back = vitrail.load(tmp_path / "flamingo.safetensors", engine="eager")
    assert back.config == model.config
    pixels, ids = pictures(1, 2), text(model.config, "p", 4, "p", 5)
    assert torch.equal(back(pixels, ids), model(pixels, ids))
    half = vitrail.load(tmp_path / "flamingo.safetensors", dtype=torch.bfloat16)
    assert half(pixels, ids).dtype == torch.bfloat16
    assert half.generate(pixels, ids, max_new_tokens=3).shape[1] > 4


# what it is asked, and how


def talking(config: FlamingoConfig = NANO) -> Flamingo:
    """A Flamingo with a GPT-2 and a tokenizer of our own."""
    tokenizer = train_tokenizer(["what colour is it?", "red", "describe the picture"], 290, 40)
    size = tokenizer.backend.get_vocab_size()
    gpt2 = replace(GPT, vocabulary=size, context=60, end=size - 1)
    model = shaken(replace(config, text=gpt2, picture=size))
    model.tokenizer, model.preprocess = tokenizer, standard(16)
    return model


def instructed(*more: str) -> Flamingo:
    """A Flamingo with a LLaMA and a tokenizer that knows IDEFICS' tokens."""
    special = ["<s>", "</s>", "<fake_token_around_image>", "<image>", *more]
    words = [*special, "User", "Assistant", "Question", "Answer", "Caption", "what", "red", ":", "?", "?:"]
    backend = Backend(WordLevel({word: index for index, word in enumerate(["<unk>", *words])}, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.add_special_tokens(special)
    model = shaken(replace(CONFIGS["CLIP and LLaMA"], picture=4))
    model.tokenizer, model.preprocess = Tokenizer(backend, 30, 0, fixed=False), standard(16)
    return model


CONVERSATION = [Turn("what?", 1), Turn("red", by="model"), Turn("what?", 2)]


def shown(count: int) -> list:
    return [open_picture(noise(20, 17, seed=seed)) for seed in range(count)]


def test_examples_come_before_the_question():
    model = talking()
    tokens, end, picture = model.tokenizer.plain, model.config.text.end, model.config.picture
    prompt = model.prompt(CONVERSATION, shown(3))
    assert prompt.ids.tolist() == [[picture, *tokens("what?"), *tokens("red"), end, picture, picture, *tokens("what?")]]
    assert torch.equal(prompt.pixels, torch.stack([model.preprocess(one)[0] for one in shown(3)])[None])
    ids, said = model.transcript([*CONVERSATION, Turn("red", by="model")])
    assert ids == [*prompt.ids[0].tolist(), *tokens("red"), end]
    spoken = [token for token, told in zip(ids, said, strict=True) if told]
    assert spoken == [*tokens("red"), end] * 2
    written = model.generate(prompt.pixels, prompt.ids, max_new_tokens=4)
    assert written.shape[1] > prompt.ids.shape[1]


def test_captions_are_asked_for_in_words():
    model = talking()
    prompt = model.prompt([Turn("", 1)], shown(1), "zh")
    assert prompt.ids.tolist() == [[model.config.picture, *model.tokenizer.plain("描述图片")]]
    assert model.prompt([Turn("what?")], []).pixels is None


def test_idefics_forms():
    """Which of them is taken; what they spell is compared with the publisher's in tests/parity/test_idefics.py."""
    base = instructed()
    assert base.ends == (39,)
    assert base.stop == ("\n", "Question:")
    spelled = base.tokenizer.plain(
        "<s><fake_token_around_image><image><fake_token_around_image>Question: what? Answer:"
    )
    assert base.prompt([Turn("what?", 1)], shown(1)).ids.tolist() == [spelled]
    taught = instructed("<end_of_utterance>")
    assert taught.ends == (39, 5)
    assert taught.stop == ("\nUser:", "\nAssistant:")
    ids = taught.prompt(CONVERSATION, shown(3)).ids[0].tolist()
    assert ids.count(4) == 3
    assert ids.count(3) == 2 + 3  # around the first picture, and around two and between them
    assert ids.count(5) == 3


def test_what_cannot_be_asked():
    model = talking()
    with pytest.raises(vitrail.UsageError, match="the turns show 3 pictures and 2 were given"):
        model.prompt(CONVERSATION, shown(2))
    with pytest.raises(vitrail.UsageError, match="flamingo speaks en and zh, not fr"):
        model.prompt([Turn("", 1)], shown(1), "fr")
    with pytest.raises(vitrail.UsageError, match=r"[0-9]+ tokens leave no room for an answer: this network reads 60"):
        model.prompt([Turn("q " * 60, 1)], shown(1))
    with pytest.raises(vitrail.UsageError, match="shows 2 pictures and 1 were given"):
        model(pictures(1, 1), text(model.config, "p", 3, "p"))
    with pytest.raises(vitrail.UsageError, match="shows 1 pictures and 0 were given"):
        model(None, text(model.config, "p", 3))
    with pytest.raises(ValueError, match="a text of 61 tokens is too long: this network reads 60"):
        model(None, torch.full((1, 61), 3))
    with pytest.raises(vitrail.UsageError, match="has no vector for a picture"):
        model.pool(model.features(pictures(1)))
    model.tokenizer = None
    with pytest.raises(vitrail.UsageError, match="no tokenizer"):
        model.prompt(CONVERSATION, shown(3))
    with pytest.raises(vitrail.UsageError, match="may not spell out the token that stands for a picture"):
        instructed().prompt([Turn("what <image>?", 1)], shown(1))
    with pytest.raises(vitrail.UsageError, match="IDEFICS speaks en, not zh"):
        instructed().prompt([Turn("what?", 1)], shown(1), "zh")
    with pytest.raises(vitrail.UsageError, match="with a GPT-2 only"):
        instructed().transcript(CONVERSATION)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"every": 0}, "cannot stand before every 0 blocks"), ({"picture": 41}, "token 41 is none of the 41 there are")],
)
def test_numbers_that_make_no_sense(changed, reason):
    with pytest.raises(ValueError, match=reason):
        Flamingo(replace(NANO, **changed))
