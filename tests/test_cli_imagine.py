"""The command line of generate and edit."""

import base64
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import vitrail
from tests import painter as painters
from tests.models.test_generator import texts
from tests.models.test_latent_diffusion import tiny
from tests.painter import Dreamer, Painter, PainterConfig, looks_like, painter, saved_painter
from vitrail import registry
from vitrail.cli import app, terminal
from vitrail.tasks.recipe import read_recipe

RED_DISC, BLUE_DISC, RED_SQUARE = 0, 2, 4


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    painters.register()
    folder = tmp_path_factory.mktemp("models")
    yield {kind.family: saved_painter(folder, kind) for kind in (Painter, Dreamer)}
    for kind in (Painter, Dreamer):
        del registry.FAMILIES[kind.family]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    vitrail.generate("red disc", seed=1, model=painter()).image.save("red.jpg", quality=95)
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    mask.save("mask.png")
    return tmp_path


@pytest.fixture
def run(models):
    def invoke(*arguments: object, said: str | None = None, model: str = "painter"):
        named = [] if "-m" in arguments or "--again" in arguments else ["-m", models[model]]
        return CliRunner().invoke(app, [*map(str, arguments), *named], input=said)

    return invoke


def looks(path: str, number: int) -> bool:
    with Image.open(path) as image:
        return looks_like(image, number)


def test_generate_into_a_file(run, folder):
    done = run("generate", "red disc", "-o", "out.png", "--seed", 3)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "out.png: seed 3\n", "")
    assert looks("out.png", RED_DISC)
    assert read_recipe("out.png").prompt == "red disc"
    assert run("generate", "blue disc", "-o", "out.png").exit_code == 0
    assert looks("out.png", BLUE_DISC)
    done = run("generate", "disc", "-o", "out.jpg", "--size", "24x16", "--num-steps", 3)
    with Image.open("out.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (24, 16))


def test_files_called_after_the_prompt_take_no_others_place(run, folder):
    for name in ("red-disc.png", "red-disc-2.png", "red-disc-3.png"):
        assert run("generate", "red disc", "--seed", 3).stdout == f"{name}: seed 3\n"
    done = run("generate", "red", "blue", "-o", "new/folder", "--count", 2, "--seed", 3)
    assert done.exit_code == 0
    names = {path.name for path in Path("new/folder").iterdir()}
    assert names == {"red.png", "red-2.png", "blue.png", "blue-2.png"}


def test_several_are_numbered_and_on_a_sheet(run, folder):
    done = run("generate", "disc", "--count", 3, "--seed", 7, "-o", "out.png", "--sheet", "sheet.png")
    assert done.stdout == "out-1.png: seed 7\nout-2.png: seed 8\nout-3.png: seed 9\nsheet.png\n"
    assert Path("out-2.png").read_bytes() != Path("out-1.png").read_bytes()
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) > 2 * 128


def test_json_is_one_line_an_input(run, folder):
    Path("prompts.txt").write_text("blue disc\n\nfrog\n", encoding="utf-8")
    done = run("generate", "red disc", "--prompts-file", "prompts.txt", "--count", 2, "-o", "out", "--json")
    assert done.exit_code == 1
    assert done.stderr == "Error: this network knows no 'frog'\n"
    red, blue, frog = map(json.loads, done.stdout.splitlines())
    assert [red["input"], blue["input"], frog["input"]] == ["red disc", "blue disc", "frog"]
    assert set(frog) == {"input", "error"}
    for path in (picture["path"] for picture in red["pictures"]):
        assert looks(path, RED_DISC)
        said = read_recipe(path).to_dict()
        assert {**said, "path": path} in red["pictures"]
    piped = run("generate", "-", "--json", said="red disc\nblue disc\n")
    assert [json.loads(line)["input"] for line in piped.stdout.splitlines()] == ["red disc", "blue disc"]


def test_again_gives_the_same_file(run, folder, models):
    run("generate", "red disc", "-o", "out.png", "--seed", 3, "--sampler", "euler-ancestral", "--negative", "blue")
    done = run("generate", "--again", "out.png", "-o", "same.png")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "same.png: seed 3\n", "")
    assert Path("same.png").read_bytes() == Path("out.png").read_bytes()
    run("generate", "--again", "out.png", "blue disc", "--num-steps", 4, "-o", "other.png")
    other = read_recipe("other.png")
    assert (other.prompt, other.num_steps, other.sampler, other.negative) == ("blue disc", 4, "euler-ancestral", "blue")
    assert looks("other.png", BLUE_DISC)
    changed = painter()
    changed.colours.data[0] *= 0.9
    vitrail.save(changed, folder / "changed.safetensors")
    done = run("generate", "--again", "out.png", "-m", folder / "changed.safetensors")
    assert done.exit_code == 0
    assert re.search(r"^Note: out.png may come out otherwise: '.*changed.safetensors' has other weights", done.stderr)


def test_the_preview_ends_as_the_picture(run, folder):
    done = run("generate", "red disc", "-o", "out.png", "--preview", "so-far.png", "--preview-every", 3)
    assert done.exit_code == 0
    with Image.open("so-far.png") as preview, Image.open("out.png") as picture:
        assert preview.tobytes() == picture.tobytes()
    run("generate", "red disc", "-o", "out.png", "--preview", "never.png", "--preview-every", 0)
    assert not Path("never.png").exists()


def test_towards_another_prompt(run, folder):
    done = run("generate", "red disc", "--towards", "blue disc", "--frames", 3, "-o", "way.gif", "--seed", 2)
    assert done.stdout == "red disc → blue disc\n  3 pictures, seed 2\n  way.gif\n"
    with Image.open("way.gif") as film:
        assert film.n_frames == 4
    done = run("generate", "red disc", "--towards", "blue disc", "--frames", 3, "--seed", 2, "--json")
    said = json.loads(done.stdout)
    assert (said["towards"], said["path"]) == ("blue disc", "red-disc-to-blue-disc.png")
    assert run("generate", "--again", said["path"], "-o", "strip.png").exit_code == 0
    assert Path("strip.png").read_bytes() == Path(said["path"]).read_bytes()


def test_trace(run, folder):
    done = run("generate", "red disc", "--trace", "trace.png", "-o", "out.png", "--seed", 1)
    assert done.stdout == "out.png: seed 1\ntrace.png\n"
    assert looks("out.png", RED_DISC)
    with Image.open("trace.png") as drawn:
        assert drawn.width > 8 * 128


def test_a_network_without_prompts(run, folder):
    done = run("generate", "-o", "out.png", model="dreamer")
    assert done.exit_code == 0
    assert run("generate", model="dreamer").stdout.startswith("picture.png: seed ")


def test_edit(run, folder):
    done = run("edit", "red.jpg", "blue disc", "--strength", 0.9, "-o", "out.png", "--seed", 1)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "out.png: seed 1\n", "")
    assert looks("out.png", BLUE_DISC)
    assert run("edit", "--again", "out.png", "-o", "same.png").stderr == ""
    assert Path("same.png").read_bytes() == Path("out.png").read_bytes()
    Path("moved").mkdir()
    Path("red.jpg").rename("moved/red.jpg")
    assert "there is no such file" in run("edit", "--again", "out.png").stderr
    run("edit", "moved/red.jpg", "--again", "out.png", "-o", "third.png")
    with Image.open("third.png") as third, Image.open("out.png") as out:
        assert third.tobytes() == out.tobytes()
    assert run("edit", "moved", "blue", "--seed", 1).stdout == f"{Path('moved/red-edited.png')}: seed 1\n"


def test_edit_under_a_mask(run, folder):
    done = run("edit", "red.jpg", "blue disc", "--mask", "mask.png", "-o", "out.png")
    assert done.exit_code == 0
    with Image.open("out.png") as out, Image.open("red.jpg") as red:
        assert out.crop((16, 0, 32, 32)).tobytes() == red.crop((16, 0, 32, 32)).tobytes()
        assert out.tobytes() != red.tobytes()


def test_variations(run, folder):
    done = run("edit", "red.jpg", "--variations", 3, "--seed", 4, "--sheet", "sheet.png")
    assert done.stdout == ("red-edited.png: seed 4\nred-edited-2.png: seed 5\nred-edited-3.png: seed 6\nsheet.png\n")
    done = run("edit", "red.jpg", "blue", "--variations", 2, "-o", "out.png", "--json")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["input"] == "red.jpg"
    assert [(one["prompt"], one["path"]) for one in line["pictures"]] == [("blue", "out-1.png"), ("blue", "out-2.png")]
    assert [one["start"]["picture"] for one in line["pictures"]] == ["red.jpg"] * 2


def test_many_pictures_and_a_broken_one(run, folder):
    Path("broken.png").write_bytes(b"broken")
    done = run("edit", "red.jpg", "broken.png", "mask.png", "blue", "-o", "out", "--num-steps", 2, "--json")
    assert done.exit_code == 1
    assert "broken.png is not a picture" in done.stderr
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [False, True, False]
    assert sorted(path.name for path in Path("out").iterdir()) == ["mask-edited.png", "red-edited.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["generate"], 2, "say what to make"),
        (["generate", ""], 2, "the prompt is empty"),
        (["generate", "a red disc or what"], 2, "too long"),
        (["generate", "一只青蛙"], 2, "knows no '一只青蛙'"),
        (["generate", "disc", "--size", "30"], 2, "multiples of 8"),
        (["generate", "disc", "--size", "large"], 2, "WIDTHxHEIGHT"),
        (["generate", "disc", "--size", "0"], 2, "at least 1 pixel"),
        (["generate", "disc", "--sampler", "magic"], 2, "there are ddpm, ddim, euler"),
        (["generate", "disc", "--num-steps", "0"], 2, "at least 1 step"),
        (["generate", "disc", "--count", "0"], 2, "at least 1 picture"),
        (["generate", "disc", "--seed", "-1"], 2, "a seed is"),
        (["generate", "disc", "--preview-every", "-1"], 2, "every -1"),
        (["generate", "disc", "-o", "none/out.png"], 1, "there is no folder none"),
        (["generate", "disc", "-o", "out.bmp"], 2, "a .png, .jpg or .webp file"),
        (["generate", "disc", "-o", "out.gif"], 2, "a .png, .jpg or .webp file"),
        (["generate", "disc", "-o", "notes"], 1, "notes is no folder"),
        (["generate", "disc", "--sheet", "none/sheet.png"], 1, "there is no folder none"),
        (["generate", "disc", "--preview", "x.txt"], 2, "a .png, .jpg or .webp file"),
        (["generate", "disc", "--trace", "none/trace.png"], 1, "there is no folder none"),
        (["generate", "red", "blue", "-o", "out.png"], 2, "2 inputs do not go into one file"),
        (["generate", "disc", "--prompts-file", "none.txt"], 1, "none.txt cannot be read"),
        (["generate", "--prompts-file", "empty.txt"], 2, "no prompts in empty.txt"),
        (["generate", "--again", "none.png"], 1, "there is no such file"),
        (["generate", "--again", "red.jpg"], 1, "is no PNG file"),
        (["generate", "--again", "mask.png"], 2, "holds no recipe"),
        (["generate", "--again", "edited.png"], 2, "use edit --again"),
        (["generate", "--again", "lost.png"], 1, "there is no model 'painter'"),
        (["generate", "red", "--again", "lost.png", "--trace", "x.png"], 2, "exclude each other"),
        (["generate", "red", "--towards", "blue", "--count", "2"], 2, "for one prompt and one picture"),
        (["generate", "red", "--towards", "frog"], 2, "knows no 'frog'"),
        (["generate", "red", "--towards", "blue", "--frames", "1"], 2, "at least 2 pictures"),
        (["generate", "red", "--frames", "3"], 2, "go with --towards"),
        (["generate", "red", "--lora", "none.safetensors"], 1, "there is no LoRA file none.safetensors"),
        (["generate", "red", "--lora", "notes"], 2, "not to networks of the family painter"),
        (["generate", "red", "--lora", "notes", "--lora-strength", "nan"], 2, "a LoRA is a number, not nan"),
        (["generate", "red", "--lora-strength", "1"], 2, "one --lora-strength for each --lora, or none: not 1 for 0"),
        (["generate", "red", "-m", "efficientnet-lite0"], 2, "makes no pictures"),
        (["classify", "red.jpg"], 2, "use generate or edit"),
        (["caption", "red.jpg"], 2, "makes pictures (generate, edit) and writes nothing"),
        (["edit"], 2, "there is no picture to edit"),
        (["edit", "blue"], 2, "there is no picture to edit"),
        (["edit", "red.jpg"], 2, "say what red.jpg shall become"),
        (["edit", "none.jpg", "blue"], 1, "no such file"),
        (["edit", "red.jpg", "frog"], 2, "knows no 'frog'"),
        (["edit", "red.jpg", "blue", "--strength", "2"], 2, "above 0 and at most 1"),
        (["edit", "red.jpg", "blue", "--variations", "0"], 2, "at least 1 picture"),
        (["edit", "red.jpg", "blue", "--mask", "small.png"], 1, "small.png is 8×8 pixels and red.jpg 32×32"),
        (["edit", "red.jpg", "blue", "--mask", "none.png"], 1, "no such file"),
        (["edit", "--again", "generated.png"], 2, "use generate --again"),
        (["edit", "red.jpg", "mask.png", "--again", "edited.png"], 2, "--again makes one picture"),
        (["edit", "red.jpg", "blue", "--lora", "none.safetensors"], 1, "there is no LoRA file none.safetensors"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, folder, models, arguments, code, said):
    Image.new("L", (8, 8), 255).save("small.png")
    Path("notes").write_text("no folder")
    Path("empty.txt").write_text("\n")
    vitrail.generate("red", model=painter(), num_steps=1).pictures[0].save("lost.png")
    vitrail.generate("red", model=models["painter"], num_steps=1).pictures[0].save("generated.png")
    vitrail.edit("red.jpg", "red", model=models["painter"], num_steps=1).pictures[0].save("edited.png")
    before = set(folder.rglob("*"))
    done = run(*arguments)
    assert said in " ".join(done.stderr.split())
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (code, "", 1)
    assert set(folder.rglob("*")) == before


@pytest.fixture
def interrupted(monkeypatch):
    """Ctrl-C at the twelfth look at the network."""
    asked = 0
    denoiser = Painter.denoiser

    def one_day(self):
        denoise = denoiser(self)

        def counted(x, sigma, cond):
            nonlocal asked
            asked += 1
            if asked == 12:
                raise KeyboardInterrupt
            return denoise(x, sigma, cond)

        return counted

    monkeypatch.setattr(Painter, "denoiser", one_day)


def test_ctrl_c_keeps_what_is_done(run, folder, interrupted):
    """While the third of four pictures is made."""
    done = run("generate", "red disc", "-k", 4, "-o", "out.png", "--num-steps", 5, "--sampler", "euler", "--json")
    assert (done.exit_code, done.stderr) == (130, "Error: interrupted\n")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert [picture["path"] for picture in line["pictures"]] == ["out-1.png", "out-2.png"]
    assert sorted(path.name for path in folder.glob("*out*")) == ["out-1.png", "out-2.png"]
    assert looks("out-2.png", RED_DISC)


def test_ctrl_c_keeps_the_way_so_far(run, folder, interrupted, monkeypatch):
    how = ["--seed", 2, "--num-steps", 5, "--sampler", "euler", "--guidance-scale", 1]
    done = run("generate", "red disc", "--towards", "blue disc", "--frames", 4, *how)
    assert (done.exit_code, done.stderr) == (130, "Note: these are 2 of the 4 pictures\nError: interrupted\n")
    assert done.stdout == "red disc → blue disc\n  2 pictures, seed 2\n  red-disc-to-blue-disc.png\n"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run("generate", "--again", "red-disc-to-blue-disc.png", "-o", "whole.png").exit_code == 0
    with Image.open("red-disc-to-blue-disc.png") as part, Image.open("whole.png") as whole:
        assert (part.size, whole.size) == ((64, 32), (128, 32))
        assert part.tobytes() == whole.crop((0, 0, 64, 32)).tobytes()


def test_a_full_disk_leaves_nothing(run, folder, monkeypatch):
    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    done = run("generate", "red disc", "--num-steps", 1)
    assert done.exit_code == 1
    assert done.stderr == "Error: red-disc.png cannot be written (No space left on device)\n"
    assert not list(folder.glob("*disc*"))


def pictures_in(shown: bytes, protocol: str) -> list[Image.Image]:
    """The pictures that a terminal of this kind would show."""
    if protocol == "iterm":
        encoded = re.findall(rb"\x1b\]1337;File=inline=1;[^:]*:([^\x07]*)\x07", shown)
    else:
        encoded, whole = [], b""
        for control, chunk in re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", shown):
            assert len(chunk) <= 4096
            whole += chunk
            if b"m=0" in control:
                encoded.append(whole)
                whole = b""
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in encoded]


@pytest.mark.parametrize("protocol", ["kitty", "iterm"])
def test_on_a_terminal(models, folder, protocol):
    """Through a pseudo-terminal: a bar, pictures that become the picture, and the path."""
    start = "import sys; from tests.painter import register; register(); from vitrail.cli import main; main()"
    environment = {key: value for key, value in os.environ.items() if key not in ("TMUX", "TERM_PROGRAM")}
    environment |= {"TERM": "xterm-kitty"} if protocol == "kitty" else {"TERM": "xterm", "TERM_PROGRAM": "iTerm.app"}
    screen, end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", start, "generate", "red disc", "-o", str(folder / "out.png"), "-m", models["painter"]],
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=Path(__file__).parent.parent,
        env=environment,
    )
    os.close(end)
    shown, patience = b"", time.monotonic() + 120
    while b"seed" not in shown and time.monotonic() < patience:
        shown += os.read(screen, 65536)
    assert process.wait(60) == 0
    os.close(screen)
    assert b"8/8" in shown
    pictures = pictures_in(shown, protocol)
    assert len(pictures) == 8  # a fifth of 8 steps is one
    with Image.open(folder / "out.png") as picture:
        assert pictures[-1].tobytes() == picture.tobytes() != pictures[0].tobytes()


class Stream(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_which_terminals_show_pictures(environment, protocol):
    assert terminal.protocol_of(Stream(), environment) == protocol
    assert terminal.protocol_of(io.StringIO(), environment) is None


def test_help_has_examples():
    for verb in ("generate", "edit"):
        done = CliRunner().invoke(app, [verb, "--help"])
        assert done.exit_code == 0
        assert f"vitrail {verb}" in done.stdout.partition("Examples:\n")[2]


def test_a_network_of_another_size_is_loaded_by_its_config(run, folder):
    large = Painter(PainterConfig(48))
    path = vitrail.save(large, folder / "large.safetensors")
    assert run("generate", "red square", "-m", path, "-o", "out.png").exit_code == 0
    with Image.open("out.png") as image:
        assert image.size == (48, 48)
        assert looks_like(image, RED_SQUARE)


def test_a_network_that_works_in_a_latent_space(run, folder):
    path = vitrail.save(tiny(), folder / "tiny.safetensors")
    long = "a red frog and a cat on a mat and another frog"
    done = run("generate", long, "-m", path, "-o", "out.png", "--num-steps", 3, "--preview", "so-far.png")
    assert done.exit_code == 0
    (note,) = done.stderr.splitlines()
    assert note.startswith("Note: the prompt is longer than the ")
    assert read_recipe("out.png").prompt == long
    with Image.open("so-far.png") as preview, Image.open("out.png") as out:
        assert preview.tobytes() == out.tobytes()
    assert run("generate", "--again", "out.png", "-o", "same.png").exit_code == 0
    assert Path("same.png").read_bytes() == Path("out.png").read_bytes()
    done = run("generate", "a cat", "--trace", "trace.png", "-m", path, "--num-steps", 2, "-o", "traced.png")
    assert done.exit_code == 0
    assert run("generate", "--again", "traced.png", "-o", "untraced.png").exit_code == 0
    assert Path("traced.png").read_bytes() == Path("untraced.png").read_bytes()
    done = run("generate", "a cat", "--towards", "青蛙", "--frames", 3, "-m", path, "--num-steps", 2)
    assert done.stdout.splitlines()[-1] == "  a-cat-to-青蛙.png"
    assert run("edit", "red.jpg", "a cat", "-m", path, "--num-steps", 2).exit_code == 0
    assert "16×16 pixels, and not of 32×32" in run("generate", "a cat", "-m", path, "--size", 32).stderr


def test_a_lora(run, folder):
    path = vitrail.save(texts(), folder / "sd.safetensors")
    for seed, name in enumerate(("ink", "oil")):
        torch.manual_seed(seed)
        layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v"
        both = {f"{layer}.lora_A.weight": torch.randn(2, 16), f"{layer}.lora_B.weight": torch.randn(16, 2)}
        save_file(both, f"{name}.safetensors")
    how = ["-m", path, "--seed", 1, "--num-steps", 2]
    run("generate", "abc", *how, "-o", "plain.png")
    half = ["--lora", "ink.safetensors", "--lora-strength", 0.5]
    assert run("generate", "abc", *how, *half, "-o", "half.png").exit_code == 0
    two = ["--lora", "ink.safetensors", "--lora", "oil.safetensors"]
    assert run("generate", "abc", *how, *two, "-o", "two.png").exit_code == 0
    made = [Path(f"{name}.png").read_bytes() for name in ("plain", "half", "two")]
    assert len(set(made)) == 3
    assert [(one.file, one.strength) for one in read_recipe("half.png").loras] == [("ink.safetensors", 0.5)]
    assert [one.strength for one in read_recipe("two.png").loras] == [1, 1]

    for name, before in zip(("half", "two"), made[1:], strict=True):
        done = run("generate", "--again", f"{name}.png", "-o", "again.png")
        assert (done.exit_code, done.stderr) == (0, "")
        assert Path("again.png").read_bytes() == before
    assert run("edit", "red.jpg", "abc", *how, *half, "-o", "edited.png").exit_code == 0
    assert run("edit", "--again", "edited.png", "-o", "again.png").stderr == ""
    assert Path("again.png").read_bytes() == Path("edited.png").read_bytes()

    os.rename("ink.safetensors", "moved.safetensors")
    done = run("generate", "--again", "half.png")
    gone = "half.png was made with the LoRA ink.safetensors, which is not there: name it with --lora"
    assert (done.exit_code, done.stderr) == (1, f"Error: {gone}\n")
    done = run("generate", "--again", "half.png", "--lora", "moved.safetensors", "-o", "moved.png")
    assert (done.exit_code, done.stderr) == (0, "")
    with Image.open("moved.png") as moved, Image.open("half.png") as before:
        assert moved.tobytes() == before.tobytes()
    os.rename("oil.safetensors", "ink.safetensors")
    done = run("generate", "--again", "half.png", "--lora-strength", 1, "-o", "oil.png")
    assert "half.png may come out otherwise: the LoRA ink.safetensors is not the file it was made with" in done.stderr
    assert read_recipe("oil.png").loras[0].strength == 1
    assert run("generate", "--again", "oil.png", "-o", "again.png").stderr == ""
