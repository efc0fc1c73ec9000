"""Whole DDPMs, score networks and DiTs as diffusers publishes them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vitrail.checkpoints.layout import Description, Published
from vitrail.checkpoints.layouts.autoencoder_diffusers import AutoencoderKLDiffusers
from vitrail.checkpoints.layouts.ddpm_diffusers import CELEBA_HQ, FFHQ_1024, DDPMDiffusers, NCSNppDiffusers
from vitrail.checkpoints.layouts.dit_diffusers import DiTDiffusers
from vitrail.checkpoints.pipelines import SCHEDULER, Part, PipelineLayout
from vitrail.checkpoints.schedulers import read_chain, write_chain
from vitrail.errors import CheckpointError
from vitrail.models.ddpm_pipeline import DDPMPipeline, DDPMPipelineConfig
from vitrail.models.dit import DiTConfig
from vitrail.models.dit_pipeline import DiTPipeline, DiTPipelineConfig
from vitrail.models.model import Model
from vitrail.models.ncsnpp import NCSNppConfig
from vitrail.models.score_sde_pipeline import ScoreSDEPipeline, ScoreSDEPipelineConfig

_SCORE_SCHEDULER = "ScoreSdeVeScheduler"
_LARGE_CHAIN = replace(DDPMPipelineConfig().chain, variance="small")  # of the networks for 256 pixels
_SUBJECTS = ("church", "bedroom", "celebahq", "ffhq")


class DDPMPipelineDiffusers(PipelineLayout):
    """`DDPMPipeline`, and the same network with another sampler."""

    family = "ddpm-pipeline"
    model: type[Model] = DDPMPipeline
    class_names = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline")
    parts: ClassVar[Mapping[str, Part]] = {"unet": Part("network", DDPMDiffusers())}
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(config, name, "Apache-2.0")
        for name, config in (
            ("google/ddpm-cifar10-32", DDPMPipelineConfig()),
            *(
                (f"google/ddpm-{ema}{subject}-256", DDPMPipelineConfig(CELEBA_HQ, _LARGE_CHAIN))
                for ema in ("", "ema-")
                for subject in ("celebahq", "church", "bedroom", "cat")
            ),
        )
    }

    def read_config(self, description: Description) -> DDPMPipelineConfig:
        """The network's config and the scheduler's -> DDPMPipelineConfig."""
        return DDPMPipelineConfig(
            **self.read_parts(description), chain=read_chain(description.config["parts"][SCHEDULER])
        )

    def write_scheduler(self, config: Any) -> dict[str, Any]:
        """scheduler_config.json."""
        return write_chain(config.chain)


class ScoreSDEPipelineDiffusers(PipelineLayout):
    """`ScoreSdeVePipeline`."""

    family = "score-sde-pipeline"
    model: type[Model] = ScoreSDEPipeline
    class_names = ("ScoreSdeVePipeline",)
    parts: ClassVar[Mapping[str, Part]] = {"unet": Part("network", NCSNppDiffusers())}
    published: ClassVar[Mapping[str, Published]] = {
        name: Published(ScoreSDEPipelineConfig(network), name, "Apache-2.0")
        for name, network in (
            *((f"google/ncsnpp-{subject}-256", NCSNppConfig()) for subject in _SUBJECTS),
            ("google/ncsnpp-ffhq-1024", FFHQ_1024),
        )
    }

    def read_config(self, description: Description) -> ScoreSDEPipelineConfig:
        """The network's config and the scheduler's -> ScoreSDEPipelineConfig."""
        said = description.config["parts"][SCHEDULER]
        if said.get("_class_name") != _SCORE_SCHEDULER:
            raise CheckpointError(f"a score network with a scheduler '{said.get('_class_name')}' is unknown to Vitrail")
        return ScoreSDEPipelineConfig(
            **self.read_parts(description),
            steps=said.get("num_train_timesteps", 2000),
            sigma_min=said.get("sigma_min", 0.01),
            sigma_max=said.get("sigma_max", 1348.0),
            signal_to_noise=said.get("snr", 0.15),
            corrections=said.get("correct_steps", 1),
        )

    def write_scheduler(self, config: Any) -> dict[str, Any]:
        """scheduler_config.json."""
        return {
            "_class_name": _SCORE_SCHEDULER,
            "num_train_timesteps": config.steps,
            "sigma_min": config.sigma_min,
            "sigma_max": config.sigma_max,
            "snr": config.signal_to_noise,
            "correct_steps": config.corrections,
        }


class DiTPipelineDiffusers(PipelineLayout):
    """`DiTPipeline`; the index names the classes."""

    family = "dit-pipeline"
    model: type[Model] = DiTPipeline
    class_names = ("DiTPipeline",)
    parts: ClassVar[Mapping[str, Part]] = {
        "transformer": Part("network", DiTDiffusers()),
        "vae": Part("autoencoder", AutoencoderKLDiffusers()),
    }
    published: ClassVar[Mapping[str, Published]] = {
        f"facebook/DiT-XL-2-{side}": Published(
            DiTPipelineConfig(DiTConfig(image_size=side // 8)), f"facebook/DiT-XL-2-{side}", "CC-BY-NC-4.0"
        )
        for side in (256, 512)
    }

    def read_config(self, description: Description) -> DiTPipelineConfig:
        """The parts' configs and the scheduler's -> DiTPipelineConfig."""
        chain = read_chain(description.config["parts"][SCHEDULER], clips=False)
        return DiTPipelineConfig(**self.read_parts(description), chain=chain)

    def write_scheduler(self, config: Any) -> dict[str, Any]:
        """scheduler_config.json."""
        return write_chain(config.chain)

    def read_labels(self, description: Description, config: Any) -> tuple[str, ...] | None:
        """From id2label; each may be several names with commas between them."""
        names = description.config.get("id2label") or {}
        labels = tuple(str(names.get(str(number), "")) for number in range(config.network.classes))
        return labels if all(labels) else None

    def write_config(self, model: Model) -> dict[str, Any]:
        """The index, with the classes' names."""
        labels = {} if model.labels is None else {str(number): label for number, label in enumerate(model.labels)}
        return {**super().write_config(model), "id2label": labels or None}
