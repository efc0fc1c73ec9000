"""Contrastive learning: its losses, the gradient cache, and a run that learns what was never shown."""

import math

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from torch import Tensor, nn

import vitrail
from tests.training.small import TOWER, interrupt, pairs, small
from tests.training.test_loop import losses
from vitrail.data.generated import generate_glyphs
from vitrail.data.source import Batch
from vitrail.errors import UsageError, VitrailError
from vitrail.text.train import train_tokenizer
from vitrail.training.contrastive import infonce, sigmoid
from vitrail.training.family import build_model
from vitrail.training.loop import evaluate, train
from vitrail.training.passes import Passes
from vitrail.training.recipe import parse_recipe


def test_infonce_is_the_mean_log_share_of_the_right_ones_both_ways():
    torch.manual_seed(0)
    pictures, texts = torch.randn(3, 5), torch.randn(3, 5)
    right = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]).bool()  # two of the first thing
    expected = 0.0
    for logits in (pictures, texts):
        for row, answers in zip(logits, right, strict=True):
            shares = [math.log(float(row[at].exp() / row.exp().sum())) for at in answers.nonzero().flatten().tolist()]
            expected -= sum(shares) / len(shares) / 3 / 2
    assert float(infonce(pictures, texts, right)) == pytest.approx(expected, rel=1e-5)
    assert float(infonce(torch.zeros(4, 8), torch.zeros(4, 8), torch.eye(4, 8).bool())) == pytest.approx(math.log(8))


def test_sigmoid_is_algorithm_1():
    torch.manual_seed(0)
    logits, right = torch.randn(3, 3), torch.eye(3).bool()
    labels = 2 * torch.eye(3) - torch.ones(3, 3)
    expected = -sum(F.logsigmoid(labels[i, j] * logits[i, j]) for i in range(3) for j in range(3)) / 3
    torch.testing.assert_close(sigmoid(logits, logits.T, right), expected)


class Noisy(nn.Module):
    """Two towers that draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.GELU(), nn.Linear(8, 4))
        self.second = nn.Linear(5, 4)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, pictures: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        return F.normalize(self.first(pictures), dim=-1) * self.scale.exp(), F.normalize(self.second(texts), dim=-1)


@pytest.mark.parametrize("size", [3, 4, 12])  # 12 in chunks of 5 would be 5, 5 and 2
@pytest.mark.parametrize("loss_of", [infonce, sigmoid])
def test_chunks_give_the_gradients_of_the_whole_with_the_same_random_numbers(size, loss_of):
    torch.manual_seed(1)
    model, right = Noisy(), torch.eye(12).bool()
    chunks = list(zip(torch.randn(12, 6).split(size), torch.randn(12, 5).split(size), strict=True))

    def loss(pictures: Tensor, texts: Tensor) -> Tensor:
        return loss_of(pictures @ texts.T, texts @ pictures.T, right)

    torch.manual_seed(2)
    expected = loss(*(torch.cat(every) for every in zip(*(model(*chunk) for chunk in chunks), strict=True)))
    expected.backward()
    after = torch.rand(3)
    gradients = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    torch.manual_seed(2)
    AcceleratorState._reset_state()  # another test of this process may have had another precision
    got = Passes(model, Accelerator(cpu=True, mixed_precision="no")).in_chunks(chunks, loss)
    torch.testing.assert_close(got, expected.detach())
    assert torch.equal(torch.rand(3), after)  # what is drawn next is the same, too
    for weight, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-5, atol=1e-7)


def test_a_batch_in_chunks_is_the_whole_batch(tmp_path):
    keys = {"steps": 6, "log_every": 1}
    whole = train(pairs(**keys), output=tmp_path / "whole")
    parts = train(pairs(**keys, objective={"chunk": 20}), output=tmp_path / "parts")  # 20, 20 and 8
    assert losses(parts.folder) == pytest.approx(losses(whole.folder), abs=1e-4)


def test_a_run_learns_what_it_never_saw_in_both_languages(tmp_path):
    run = train(pairs(steps=150, schedule={"warmup": 10}, data={"scenes": 0.2}), output=tmp_path / "run")
    curve, scores = losses(run.folder), run.scores
    assert curve[150] < 0.6 * curve[3]
    assert run.split == "unseen style shaded and unseen concept"
    for language in ("en", "zh"):
        for way in ("text_to_picture", "picture_to_text", "zero_shot"):
            assert scores[f"style_{way}_{language}"] > 0.4  # of 45: chance is 0.02
        assert scores[f"style_text_to_picture_median_rank_{language}"] <= 2  # chance is 23
        assert scores[f"concept_zero_shot_{language}"] > 0.6  # of 3, in 3 styles: chance is 0.33
    assert evaluate(run.folder).scores == pytest.approx(scores, abs=0.03)

    model = vitrail.load(str(run.model))
    table = generate_glyphs(48, size=24).select(styles=["flat"])
    concepts = table.concepts.values()
    with torch.inference_mode():
        shown = model.preprocess([Image.fromarray(picture) for picture in table.pictures])
        pictures = model.encode_image(shown, normalize=True)
        for said in ([one.name_en for one in concepts], [one.name_zh for one in concepts]):
            found = (pictures @ model.encode_text(said, normalize=True).T).argmax(1)
            assert (found == torch.arange(48)).float().mean() > 0.5  # of a style of its training, but for 3


def test_the_sigmoid_loss_trains_siglip_and_needs_its_bias(tmp_path):
    keys = {"steps": 100, "objective": {"loss": "sigmoid", "chunk": 24}, "schedule": {"warmup": 10}}
    words = {"languages": ["en"], "wordings": "name"}
    run = train(pairs(**keys, data=words, model={"family": "siglip"}), output=tmp_path / "run")
    curve = losses(run.folder)
    assert curve[100] < 0.65 * curve[3]
    assert run.scores["style_text_to_picture_en"] > 0.2  # of 45: chance is 0.02
    with pytest.raises(UsageError, match=r"objective\.loss is 'sigmoid', which needs a bias, and clip has none"):
        train(pairs(**keys), output=tmp_path / "clip")


def test_the_scale_is_brought_back_to_a_hundred_before_an_update():
    recipe, texts = pairs(), ["a frog", "青蛙", "a house"]
    tokenizer = train_tokenizer(texts, 300, 24)
    model = build_model("clip", recipe.model.config(tokenizer=tokenizer))
    model.tokenizer = tokenizer
    nn.init.constant_(model.logit_scale, 9.0)
    batch: Batch = {"images": torch.randn(3, 3, 24, 24), "targets": torch.tensor([0, 0, 1]), "texts": texts}
    recipe.objective.learn(Passes(recipe.objective.trainable(model), Accelerator(cpu=True)), batch)
    assert model.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


def test_stopped_it_goes_on_with_the_tokenizer_it_had(tmp_path):
    recipe = pairs(steps=6, objective={"chunk": 16}, data={"scenes": 0.2}, augmentation={"rotate": 10.0})
    straight = train(recipe, output=tmp_path / "straight")
    interrupt(recipe, tmp_path / "stopped", before=5)
    written = (tmp_path / "stopped" / "tokenizer.json").stat().st_mtime_ns
    resumed = train(recipe, output=tmp_path / "stopped")
    assert (tmp_path / "stopped" / "tokenizer.json").stat().st_mtime_ns == written
    assert losses(resumed.folder) == losses(straight.folder)
    assert resumed.scores == straight.scores
    (tmp_path / "stopped" / "tokenizer.json").write_text("{}")
    with pytest.raises(VitrailError, match=r"tokenizer\.json cannot be read"):
        train(recipe, output=tmp_path / "stopped")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"accumulate": 2}, r"accumulate is 2, but the objective contrastive compares all of a batch"),
        ({"augmentation": {"cutmix": 1.0}}, r"mix classes of pictures, and the objective contrastive has none"),
        ({"objective": {"chunk": 0}}, r"objective\.chunk is 0"),
        ({"data": {"hold_out_style": "cubist"}}, r"data\.hold_out_style names 'cubist'"),
        ({"data": {"languages": []}}, r"data\.languages"),
        ({"data": {"generated": 1, "hold_out_concepts": True}}, r"too few glyphs"),
        ({"model": {"text": {**TOWER, "vocabulary": 7}}}, r"model\.text\.vocabulary is 7, but the data has \d+"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        train(pairs(**changes), output=tmp_path / "run")


def test_objective_data_and_family_must_fit(tmp_path):
    raw, plain = pairs().model_dump(mode="json"), small().model_dump(mode="json")
    for changed, sentence in (
        ({**plain, "objective": raw["objective"]}, r"the pictures of data\.source 'glyphs' come without texts"),
        ({**raw, "objective": plain["objective"]}, r"the pictures of data\.source 'pairs' come with texts"),
        ({**raw, "model": plain["model"]}, r"networks of model\.family 'vit' read no texts"),
        ({**plain, "model": raw["model"]}, r"networks of model\.family 'clip' name no classes"),
    ):
        with pytest.raises(UsageError, match=sentence):
            train(parse_recipe(changed), output=tmp_path / "run")


def test_a_run_that_starts_from_another_reads_with_its_tokenizer(tmp_path):
    train(pairs(steps=1), output=tmp_path / "first")
    changed = pairs(steps=1, start_from=str(tmp_path / "first"), data={"hold_out_style": None, "languages": ["en"]})
    train(changed, output=tmp_path / "second")
    first, second = ((tmp_path / name / "tokenizer.json").read_text(encoding="utf-8") for name in ("first", "second"))
    assert second == first
    train(changed.model_copy(update={"start_from": None}), output=tmp_path / "anew")
    assert (tmp_path / "anew" / "tokenizer.json").read_text(encoding="utf-8") != first
