"""Translate the publishers' preprocessing files to and from `Preprocess`.

Three vocabularies: transformers' `preprocessor_config.json`, which names an image processor class and overrides some of
its defaults; timm's `pretrained_cfg` (in its hub `config.json`), whose numbers feed one evaluation transform; and
open_clip's `preprocess_cfg` (in its `open_clip_config.json`), which does the same. All are followed as the current
libraries read them: transformers' Pillow image processors, timm's `resolve_data_config` and
`create_transform(is_training=False)`, open_clip's `image_transform_v2(is_train=False)`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

from PIL.Image import Resampling

from vitrail.errors import CheckpointError
from vitrail.imaging.preprocess import HALF, IMAGENET_MEAN, IMAGENET_STD, Crop, Preprocess, Resize

MAX_EDGE = 2**14
"""Pixels: a file that asks for more is wrong or hostile."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_COMMON_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": HALF,
    "image_std": HALF,
    "do_convert_rgb": False,
    "do_pad": False,
    "default_to_square": True,
    "rescale_offset": False,
    "include_top": False,
}
_CLIP_DEFAULTS: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": 224,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "do_convert_rgb": True,
    "default_to_square": False,
}
_PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {"size": 224, "resample": 2},
    "DeiTImageProcessor": {"size": 256, "resample": 3, "do_center_crop": True, "crop_size": 224},
    "BitImageProcessor": _CLIP_DEFAULTS,
    "CLIPImageProcessor": _CLIP_DEFAULTS,
    "ChineseCLIPImageProcessor": _CLIP_DEFAULTS,
    "SiglipImageProcessor": {
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "do_convert_rgb": True,
        "default_to_square": False,
    },
    "IdeficsImageProcessor": {
        "size": {"height": 224, "width": 224},
        "resample": 3,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
        "do_convert_rgb": True,
    },
    "VideoMAEImageProcessor": {
        "size": {"shortest_edge": 224},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": 224,
        "default_to_square": False,
    },
    "PerceiverImageProcessor": {
        "size": 224,
        "resample": 3,
        "do_center_crop": True,
        "crop_size": 256,
        "image_mean": IMAGENET_MEAN,
        "image_std": IMAGENET_STD,
    },
    "EfficientNetImageProcessor": {"size": 346, "resample": 3, "crop_size": 289, "include_top": True},
}
"""What each of transformers' image processors does where its file is silent. DINOv2's is BitImageProcessor."""


def from_transformers(config: Mapping[str, Any], processor: str | None = None) -> Preprocess:
    """The preprocessing that a `preprocessor_config.json` or `processor_config.json` describes.

    Args:
        config: the parsed file, of any age: `image_processor_type` or `feature_extractor_type`, sizes as numbers or as
            dictionaries. A key that is missing takes the processor's default, and a flag that is null is off, as in
            transformers.
        processor: the processor meant by a file that names none, as some of the oldest do; transformers goes by the
            `model_type` in `config.json` then.

    Raises:
        CheckpointError: an unknown processor, or a value that makes no sense; it names the key.
    """
    config = config.get("image_processor", config)
    if not isinstance(config, Mapping):
        raise CheckpointError(f"image_processor in the processor config must be a dictionary, not {config!r}.")
    name = _processor_name(config, processor)
    settings = _Settings({**_COMMON_DEFAULTS, **_PROCESSORS[name], **config}, f"{name}'s config")

    if settings.flag("do_pad"):
        settings.reject("do_pad", "padding pictures to a common size is not something Vitrail does")
    normalize = settings.flag("do_normalize")
    efficientnet, perceiver = name == "EfficientNetImageProcessor", name == "PerceiverImageProcessor"
    again = efficientnet and settings.flag("include_top")
    channels = len(settings.values["image_mean"]) if _is_list(settings.values["image_mean"]) else 3
    if channels not in (1, 3):
        settings.reject("image_mean", "pictures have 3 channels or 1")
    mean, std = settings.statistics("image_mean", "image_std", channels) if normalize or again else (None, None)
    whiten = settings.flag("do_convert_rgb")
    if whiten and channels == 1:
        settings.reject("do_convert_rgb", "image_mean has 1 value and an RGB picture has 3 channels")
    cropped = settings.flag("do_center_crop")
    rescale = settings.number("rescale_factor") if settings.flag("do_rescale") else None
    if rescale == 0:
        settings.reject("rescale_factor", "every pixel would come out the same")
    return Preprocess(
        resize=_transformers_resize(settings) if settings.flag("do_resize") else None,
        crop=Crop(settings.height_width("crop_size"), "floor") if cropped and not perceiver else None,
        mode="RGB" if channels == 3 else "L",
        transparency="white" if whiten else "drop",
        rescale=rescale,
        rescale_offset=efficientnet and rescale is not None and settings.flag("rescale_offset"),
        # include_top divides by the deviation a second time, or the only time where the first was switched off
        mean=(0.0,) * channels if again and not normalize else mean,
        std=std,
        std_twice=normalize and again,
        middle=_middle(settings) if cropped and perceiver else None,
    )


def to_transformers(preprocess: Preprocess, processor: str, *, exact: bool = True) -> dict[str, Any]:
    """The `preprocessor_config.json` with which transformers' `processor` gives the same tensors.

    Args:
        preprocess: what to write down.
        processor: "ViTImageProcessor", "DeiTImageProcessor", "BitImageProcessor", "CLIPImageProcessor", ….
        exact: refuse a crop that the two libraries round differently. With False it is written all the same, and may
            lie one pixel further up or left: transformers rounds the margin down, timm to the nearest; or, of
            Perceiver's, cut to the nearest fraction with a whole number of pixels below it.

    Raises:
        CheckpointError: transformers has no words for it; the sentence says what for.
    """
    if processor not in _PROCESSORS:
        raise CheckpointError(f"Unknown image processor {processor!r}: known are {', '.join(_PROCESSORS)}.")
    resize, crop = preprocess.resize, preprocess.crop
    config: dict[str, Any] = {"image_processor_type": processor, "do_resize": resize is not None}
    if resize is not None:
        config |= {"size": _transformers_size(resize, processor), "resample": int(resize.resample)}
    config["do_center_crop"] = crop is not None or preprocess.middle is not None
    if processor == "PerceiverImageProcessor":
        config |= _perceiver_crop(preprocess, processor, exact)
    elif preprocess.middle is not None:
        _cannot_say(processor, "a cut from the middle of the picture before it is resized; PerceiverImageProcessor can")
    elif crop is not None:
        if any(crop.fill or ()):
            _cannot_say(processor, f"a crop filled with {crop.fill}; it fills with black")
        if exact and not _rounds_alike(crop, "floor", resize):
            _cannot_say(processor, "a crop whose margins are rounded to the nearest pixel; it rounds them down")
        config["crop_size"] = {"height": crop.size[0], "width": crop.size[1]}
    if preprocess.transparency == "white" and preprocess.mode == "L":
        _cannot_say(processor, "grey pictures laid on white; it does that in RGB only")
    config["do_convert_rgb"] = preprocess.transparency == "white"
    config["do_rescale"] = preprocess.rescale is not None
    if preprocess.rescale is not None:
        config["rescale_factor"] = preprocess.rescale
    config["do_normalize"] = preprocess.mean is not None
    config["image_mean"] = list(preprocess.mean or (0.0,) * preprocess.channels)  # also how a file says 1 channel
    config["image_std"] = list(preprocess.std or (1.0,) * preprocess.channels)
    if processor == "EfficientNetImageProcessor":
        config |= {"rescale_offset": preprocess.rescale_offset, "include_top": preprocess.std_twice}
    elif preprocess.rescale_offset or preprocess.std_twice:
        _cannot_say(processor, "rescale_offset or a second division by std; EfficientNetImageProcessor can")
    return config


def from_timm(pretrained_cfg: Mapping[str, Any]) -> Preprocess:
    """The evaluation transform that timm's `pretrained_cfg` describes.

    Args:
        pretrained_cfg: that section, or the whole hub `config.json`, of today's form or the flat one of old. What is
            missing takes timm's default; `test_input_size` and `test_crop_pct` are left alone, as timm does by default.

    Raises:
        CheckpointError: a value that makes no sense; it names the key.
    """
    pretrained_cfg = pretrained_cfg.get("pretrained_cfg", pretrained_cfg)
    if not isinstance(pretrained_cfg, Mapping):
        raise CheckpointError(f"pretrained_cfg must be a dictionary, not {pretrained_cfg!r}.")
    defaults = {
        "input_size": (3, 224, 224),
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "crop_pct": 0.875,
        "crop_mode": "center",
    }
    given = {key: value for key, value in pretrained_cfg.items() if value}  # timm takes 0, "" and () for missing too
    settings = _Settings({**defaults, **given}, "timm's pretrained_cfg")

    channels, height, width = settings.input_size("input_size")
    mean, std = settings.statistics("mean", "std", channels)
    crop_fraction = settings.number("crop_pct")
    if not max(height, width) / MAX_EDGE <= crop_fraction <= min(height, width):
        settings.reject("crop_pct", "pictures would be scaled to an impossible size")
    scaled = math.floor(height / crop_fraction), math.floor(width / crop_fraction)
    resample = settings.interpolation("interpolation")
    fill = None
    match settings.values["crop_mode"]:
        case "center" if scaled[0] == scaled[1]:
            resize = Resize(scaled[0], "shortest", resample)
        case "center":
            resize = Resize(scaled, "cover", resample)
        case "squash":
            resize = Resize(scaled, "exact", resample)
        case "border":
            resize = Resize(scaled, "contain", resample)
            fill = _border_colour(mean)
        case _:
            settings.reject("crop_mode", "it must be 'center', 'squash' or 'border'")
    crop = Crop((height, width), "nearest", fill)
    return Preprocess(resize, crop, mode="RGB" if channels == 3 else "L", mean=mean, std=std)


def to_timm(preprocess: Preprocess, *, exact: bool = True) -> dict[str, Any]:
    """The keys of timm's `pretrained_cfg` with which its evaluation transform gives the same tensors.

    timm rescales by 1/255 and normalises once; another rescaling, its offset and EfficientNet's second division are
    folded into `mean` and `std`, which is the same but for the last bits of a float32. Transparency has no key: timm is
    given pictures that are RGB already.

    Args:
        preprocess: what to write down.
        exact: refuse a crop that the two libraries round differently. With False it is written all the same, and may
            lie one pixel further down or right: timm rounds the margin to the nearest, transformers down.

    Returns:
        `input_size`, `interpolation`, `crop_pct`, `crop_mode`, `mean` and `std`, as JSON has them.

    Raises:
        CheckpointError: timm has no words for it; the sentence says what for.
    """
    resize, crop = preprocess.resize, preprocess.crop
    if preprocess.middle is not None:
        _cannot_say("timm", "a cut from the middle of the picture before it is resized")
    if resize is None:
        _cannot_say("timm", "pictures that are not resized")
    if resize.longest is not None:
        _cannot_say("timm", "a limit on the longest edge")
    size = preprocess.output_size
    if size is None:
        _cannot_say("timm", "results whose size depends on the picture; crop them to a fixed size")
    scaled = (resize.size, resize.size) if isinstance(resize.size, int) else resize.size
    if resize.rule == "cover" and scaled[0] == scaled[1]:
        _cannot_say("timm", "the resize rule 'cover' for a square; it takes 'shortest' there")
    crop_mode = {"exact": "squash", "contain": "border", "shortest": "center", "cover": "center"}[resize.rule]

    mean, std = _folded(preprocess)
    if crop is not None:
        fill = _border_colour(mean) if crop_mode == "border" else (0,) * preprocess.channels
        if (crop.fill or (0,) * preprocess.channels) != fill:
            _cannot_say("timm", f"a crop filled with {crop.fill}; here it fills with {fill}")
        if exact and not _rounds_alike(crop, "nearest", resize):
            _cannot_say("timm", "a crop whose margins are rounded down; it rounds them to the nearest pixel")
    return {
        "input_size": [preprocess.channels, *size],
        "interpolation": resize.resample.name.lower(),
        "crop_pct": _crop_fraction(size, scaled),
        "crop_mode": crop_mode,
        "mean": mean,
        "std": std,
    }


def from_open_clip(preprocess_cfg: Mapping[str, Any], image_size: tuple[int, int]) -> Preprocess:
    """The evaluation transform that open_clip's `preprocess_cfg` describes.

    Args:
        preprocess_cfg: that section of `open_clip_config.json`. What is missing takes open_clip's default; `size` is
            left alone, for open_clip always takes the network's.
        image_size: (height, width) of the network's pictures.

    Raises:
        CheckpointError: a value that makes no sense; it names the key.
    """
    defaults = {
        "mean": CLIP_MEAN,
        "std": CLIP_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
        "mode": "RGB",
    }
    given = {key: value for key, value in preprocess_cfg.items() if value is not None}
    settings = _Settings({**defaults, **given}, "open_clip's preprocess_cfg")

    mean, std = settings.statistics("mean", "std", 3)
    if settings.values["interpolation"] not in _OPEN_CLIP_FILTERS:
        settings.reject("interpolation", f"it must be one of {', '.join(_OPEN_CLIP_FILTERS)}")
    resample = _OPEN_CLIP_FILTERS[settings.values["interpolation"]]
    if settings.values["mode"] != "RGB":
        settings.reject("mode", "it must be 'RGB'")
    fill = settings.values["fill_color"]
    if not isinstance(fill, int) or not 0 <= fill <= 255:
        settings.reject("fill_color", "it must be a number from 0 to 255")
    crop: Crop | None = Crop(image_size)
    match settings.values["resize_mode"]:
        case "shortest" if image_size[0] == image_size[1]:
            resize = Resize(image_size[0], "shortest", resample)
        case "shortest":
            resize = Resize(image_size, "cover", Resampling.BICUBIC)  # open_clip drops the filter here
        case "squash":
            resize, crop = Resize(image_size, "exact", resample), None
        case "longest":
            resize, crop = Resize(image_size, "contain", resample), Crop(image_size, fill=(fill,) * 3)
        case _:
            settings.reject("resize_mode", "it must be 'shortest', 'squash' or 'longest'")
    return Preprocess(resize, crop, mean=mean, std=std)


_OPEN_CLIP_FILTERS = {  # "random" is about training; the first of equals is written
    "bicubic": Resampling.BICUBIC,
    "bilinear": Resampling.BILINEAR,
    "random": Resampling.BICUBIC,
}


def to_open_clip(preprocess: Preprocess, image_size: tuple[int, int], *, exact: bool = True) -> dict[str, Any]:
    """The `preprocess_cfg` with which open_clip's evaluation transform gives the same tensors.

    Rescaling and transparency are as in `to_timm`: the one is folded into `mean` and `std`, the other has no key.

    Args:
        preprocess: what to write down.
        image_size: (height, width) of the network's pictures, which open_clip scales and crops to.
        exact: refuse a crop that the two libraries round differently. With False it is written all the same, and may
            lie one pixel further down or right: open_clip rounds the margin to the nearest, transformers down.

    Raises:
        CheckpointError: open_clip has no words for it; the sentence says what for.
    """
    resize, crop = preprocess.resize, preprocess.crop
    if preprocess.mode != "RGB":
        _cannot_say("open_clip", "grey pictures")
    if preprocess.middle is not None:
        _cannot_say("open_clip", "a cut from the middle of the picture before it is resized")
    if resize is None:
        _cannot_say("open_clip", "pictures that are not resized")
    if resize.longest is not None:
        _cannot_say("open_clip", "a limit on the longest edge")
    if preprocess.output_size != image_size:
        _cannot_say("open_clip", f"pictures prepared at another size than the network's {image_size}")
    scaled = (resize.size, resize.size) if isinstance(resize.size, int) else resize.size
    if scaled != image_size:
        _cannot_say("open_clip", f"pictures scaled to {scaled} and cropped to {image_size}; it scales to the crop")
    filters = {resample: name for name, resample in reversed(_OPEN_CLIP_FILTERS.items())}
    if resize.resample not in filters or (resize.rule == "cover" and resize.resample != Resampling.BICUBIC):
        _cannot_say("open_clip", f"the filter {resize.resample.name.lower()} here")
    if resize.rule == "cover" and scaled[0] == scaled[1]:
        _cannot_say("open_clip", "the resize rule 'cover' for a square; it takes 'shortest' there")
    if crop is not None and exact and not _rounds_alike(crop, "nearest", resize):
        _cannot_say("open_clip", "a crop whose margins are rounded down; it rounds them to the nearest pixel")
    mean, std = _folded(preprocess)
    config: dict[str, Any] = {
        "mean": mean,
        "std": std,
        "interpolation": filters[resize.resample],
        "resize_mode": {"exact": "squash", "contain": "longest", "shortest": "shortest", "cover": "shortest"}[
            resize.rule
        ],
    }
    if resize.rule == "contain" and crop is not None and any(crop.fill or ()):
        if len(set(crop.fill or ())) > 1:
            _cannot_say("open_clip", f"a crop filled with {crop.fill}; it fills with grey")
        config["fill_color"] = (crop.fill or (0,))[0]
    return config


class _Settings:
    """A publisher's settings. Reading one checks it, and a complaint names the key and the file."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def reject(self, key: str, reason: str) -> NoReturn:
        raise CheckpointError(f"{key} in {self.source} is {self.values.get(key)!r}: {reason}.")

    def flag(self, key: str) -> bool:
        value = self.values[key]
        if not isinstance(value, bool | None):
            self.reject(key, "it must be true or false")
        return bool(value)

    def number(self, key: str) -> float:
        value = self.values[key]
        return float(value) if _is_number(value) else self.reject(key, "it must be a number")

    def statistics(self, mean: str, std: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel; a single number stands for all channels."""
        values = []
        for key in (mean, std):
            value = self.values[key]
            values.append(tuple(value) if _is_list(value) else (value,) * channels)
            if len(values[-1]) != channels or not all(map(_is_number, values[-1])):
                self.reject(key, f"it must be a number for each of {channels} channels")
        if min(map(abs, values[1])) < 1e-30:
            self.reject(std, "a standard deviation of 0 would divide by zero")
        return values[0], values[1]

    def height_width(self, key: str) -> tuple[int, int]:
        value: Any = self.values.get(key)
        if isinstance(value, Mapping) and set(value) == {"height", "width"}:
            pair = value["height"], value["width"]
        elif _is_list(value) and len(value) == 2:
            pair = value[0], value[1]
        else:
            pair = value, value
        if not all(map(_is_edge, pair)):
            self.reject(key, "it must be a number of pixels, or a height and a width")
        return pair

    def input_size(self, key: str) -> tuple[int, int, int]:
        value = self.values[key]
        if not (_is_list(value) and len(value) == 3 and all(map(_is_edge, value)) and value[0] in (1, 3)):
            self.reject(key, "it must be 3 or 1 channels, a height and a width")
        return tuple(value)

    def interpolation(self, key: str) -> Resampling:
        for filter_ in Resampling:
            if self.values[key] in (filter_.name.lower(), filter_.value) and not isinstance(self.values[key], bool):
                return filter_
        self.reject(key, f"it must be one of {', '.join(f'{f.name.lower()} ({f.value})' for f in Resampling)}")


def _processor_name(config: Mapping[str, Any], fallback: str | None) -> str:
    published = config.get("image_processor_type") or config.get("feature_extractor_type") or fallback
    if published is None:
        raise CheckpointError(
            f"The preprocessor config names no image_processor_type: known are {', '.join(_PROCESSORS)}."
        )
    name = str(published).replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    if name not in _PROCESSORS:
        raise CheckpointError(f"Unknown image_processor_type {published!r}: known are {', '.join(_PROCESSORS)}.")
    return name


def _transformers_resize(settings: _Settings) -> Resize:
    size, resample = settings.values["size"], settings.interpolation("resample")
    if _is_edge(size) and not settings.flag("default_to_square"):
        return Resize(size, "shortest", resample)
    if not isinstance(size, Mapping) or set(size) == {"height", "width"}:
        return Resize(settings.height_width("size"), "exact", resample)
    if set(size) not in ({"shortest_edge"}, {"shortest_edge", "longest_edge"}) or not all(map(_is_edge, size.values())):
        settings.reject("size", "it must have height and width, or shortest_edge and perhaps longest_edge, in pixels")
    return Resize(size["shortest_edge"], "shortest", resample, size.get("longest_edge"))


def _middle(settings: _Settings) -> tuple[float, float]:
    """How much of the shortest edge Perceiver's processor keeps: `size` of `crop_size`, before it resizes to `size`."""
    (height, width), (crop_height, crop_width) = settings.height_width("size"), settings.height_width("crop_size")
    return height / crop_height, width / crop_width


def _transformers_size(resize: Resize, processor: str) -> dict[str, int]:
    if isinstance(resize.size, int):
        longest = {} if resize.longest is None else {"longest_edge": resize.longest}
        return {"shortest_edge": resize.size, **longest}
    if resize.rule != "exact":
        _cannot_say(processor, f"the resize rule {resize.rule!r}")
    return {"height": resize.size[0], "width": resize.size[1]}


def _perceiver_crop(preprocess: Preprocess, processor: str, exact: bool) -> dict[str, Any]:
    if preprocess.crop is not None:
        _cannot_say(processor, "a crop after the picture is resized; it crops before")
    if preprocess.middle is None:
        return {}
    size = preprocess.output_size
    if size is None:
        _cannot_say(processor, "a cut from the middle of the picture that is not resized to a fixed size")
    crop_size = tuple(round(edge / fraction) for edge, fraction in zip(size, preprocess.middle, strict=True))
    if exact and tuple(edge / crop for edge, crop in zip(size, crop_size, strict=True)) != preprocess.middle:
        _cannot_say(processor, f"the middle {preprocess.middle} of a picture resized to {size}")
    return {"crop_size": {"height": crop_size[0], "width": crop_size[1]}}


def _rounds_alike(crop: Crop, rounding: Literal["floor", "nearest"], resize: Resize | None) -> bool:
    """Whether the crop would lie in the same place with the other rounding, whatever the picture."""
    if crop.rounding == rounding:
        return True
    if resize is None or isinstance(resize.size, int) or resize.rule != "exact":
        return False
    return crop.corner(*resize.size) == Crop(crop.size, rounding).corner(*resize.size)


def _folded(preprocess: Preprocess) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that do the work of all the arithmetic, for a library that rescales by 1/255."""
    # (v·a + b - mean) / std  ==  (v / 255 - (mean - b) / 255a) / (std / 255a)
    gain = 255 * (1.0 if preprocess.rescale is None else preprocess.rescale)
    offset = -1.0 if preprocess.rescale_offset else 0.0
    mean = [(value - offset) / gain for value in preprocess.mean or (0.0,) * preprocess.channels]
    std = [value / gain for value in preprocess.std or (1.0,) * preprocess.channels]
    if preprocess.std_twice and preprocess.std is not None:
        std = [value * again for value, again in zip(std, preprocess.std, strict=True)]
    return mean, std


def _crop_fraction(size: tuple[int, int], scaled: tuple[int, int]) -> float:
    """The crop_pct for which floor(size / crop_pct) is `scaled`, on both edges."""
    fraction = min(edge / larger for edge, larger in zip(size, scaled, strict=True))
    for candidate in (fraction, math.nextafter(fraction, 0)):  # the quotient of a rounded quotient may fall short
        if tuple(math.floor(edge / candidate) for edge in size) == scaled:
            return candidate
    _cannot_say("timm", f"pictures scaled to {scaled} and cropped to {size}; it has one crop_pct for both edges")


def _border_colour(mean: Sequence[float]) -> tuple[int, ...]:
    return tuple(round(255 * value) for value in mean)


def _cannot_say(vocabulary: str, what: str) -> NoReturn:
    raise CheckpointError(f"{vocabulary} has no words for {what}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30  # NaN, too, fails this


def _is_edge(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_EDGE


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)
