"""The fine-tuning presets. With few labels the choice matters more than anything else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from frugalseg.engine.optimization import Optimization
from frugalseg.errors import OptionError
from frugalseg.options import FinetuneOptions, Keep, Norm, Semi

if TYPE_CHECKING:
    import torch

    from frugalseg.dataset.augment import Strength
    from frugalseg.segmentation.losses import LossName


@dataclass(frozen=True, kw_only=True)
class Preset(Optimization):
    """Everything about a fine-tuning that is not data or network; `cosine` falls to a hundredth of the learning rate.

    Attributes:
        norm: normalisation layers.
        dropout: share of activations dropped where the backbone drops some, or None for what was published with it.
        first_logit: initial logit of every class: "frequency", the logarithm of its pixels per background pixel in the
            labelled slices, or None for that of the layers' initialisation.
        loss: see `segmentation.losses`.
        augment: strength of the random augmentation, or None.
        clip: largest gradient norm, or None.
        epochs, steps: default length; one of the two is given. `steps` are those for one organ, see `steps_for`.
        restart_epochs: epochs between the restarts of warm_restarts.
        ema_decay: of the exponential moving average (EMA) of the weights, which is then the model that is validated and
            saved; None for the weights themselves.
        semi: how unlabelled training slices are used (see `segmentation.pseudo` and `segmentation.consistency`).
        rounds: of self-training.
        unlabelled_share: share of unlabelled slices in a batch, where they are used.
        keep: candidate post-processing (see `masks.components`), chosen for each organ on the validation patients.
        context: neighbouring slices on each side that the network sees.
    """

    norm: Norm
    dropout: float | None
    first_logit: Literal["frequency"] | None
    loss: LossName
    augment: Strength | None
    clip: float | None
    epochs: int | None = None
    steps: int | None = None
    restart_epochs: int = 10
    ema_decay: float | None = None
    semi: Semi = "none"
    rounds: int = 1
    unlabelled_share: float = 0.5
    keep: tuple[Keep, ...] = ("all", "largest")
    context: int = 0

    def steps_for(self, organs: int) -> int | None:
        """Default number of steps, which grows with the square root of the number of organs, or None for `epochs`."""
        return None if self.steps is None else round(self.steps * organs**0.5 / 100) * 100

    def content(self) -> dict[str, object]:
        """All fields, which identify a training in studies; `ema_decay` is called `decay` there, so that trainings of
        earlier versions keep their names."""
        content = asdict(self)
        content["decay"] = content.pop("ema_decay")
        return content


ROBUST = Preset(
    norm="instance_affine",
    dropout=0.0,
    first_logit="frequency",
    loss="log_dice_over_batch+ce",
    augment="robust",
    optimizer="adamw",
    lr=3e-3,
    weight_decay=1e-2,
    schedule="one_cycle",
    clip=1.0,
    steps=1000,
)

PRESETS = {
    "robust": ROBUST,
    # arXiv 2505.19208, section 4.2, and its code; the restarts step inside an epoch, as the paper says.
    "paper": Preset(
        norm="instance",
        dropout=None,
        first_logit=None,
        loss="dice_per_slice",
        augment=None,
        optimizer="adam",
        lr=1e-3,
        weight_decay=0.0,
        schedule="warm_restarts",
        clip=None,
        epochs=100,
        keep=("all",),
    ),
    # arXiv 2504.14737, and its code: finetune.sh, train_supervised.py.
    "supercl": Preset(
        norm="batch",
        dropout=0.0,
        first_logit=None,
        loss="ce",
        augment="supercl",
        optimizer="adam",
        lr=5e-4,
        weight_decay=1e-5,
        schedule="cosine",
        clip=None,
        epochs=100,
        keep=("all",),
    ),
    # May change: docs/explanation/results/recipe.md states what has been measured and what has not.
    "best": replace(ROBUST, semi="self-training", ema_decay=0.99, keep=("all", "largest", "core")),
}

TEACHER_EMA_DECAY = 0.99
"""EMA decay of --semi mean-teacher where the preset has none."""


def resolve_preset(options: FinetuneOptions, encoder_context: int | None = None) -> Preset:
    """The preset with the options that override it, and the context that the encoder was trained with.

    Raises:
        OptionError: --rounds, --teacher or --refine without self-training, another --context than the encoder's, or a
            batch too small for labelled and unlabelled slices.
    """
    preset = PRESETS[options.preset]
    context = preset.context if options.context is None else options.context
    if encoder_context is not None:
        if options.context not in (None, encoder_context):
            raise OptionError(
                f"--context {options.context}: the encoder was pre-trained with {encoder_context}",
                "leave out --context",
            )
        context = encoder_context
    preset = replace(preset, semi=options.semi or preset.semi, context=context)
    if (preset.semi != "none" or options.propagate is not None) and options.batch_size < 2:
        raise OptionError(f"--batch-size {options.batch_size} is too small for unlabelled slices", "give 2 or more")
    if preset.semi == "mean-teacher" and preset.ema_decay is None:
        preset = replace(preset, ema_decay=TEACHER_EMA_DECAY)
    if options.rounds is not None and preset.semi != "self-training":
        raise OptionError(f"--rounds {options.rounds} applies to self-training only", "give --semi self-training too")
    if options.teacher is not None and (preset.semi != "self-training" or options.rounds is not None):
        raise OptionError(
            f"--teacher {options.teacher} applies to self-training of one round only",
            "give --semi self-training too, and leave out --rounds",
        )
    if options.refine is not None and preset.semi != "self-training":
        raise OptionError(
            f"--refine {options.refine} applies to self-training only",
            "give --semi self-training too, or refine the model's masks: `frugalseg predict --refine`",
        )
    return replace(preset, rounds=options.rounds or preset.rounds)


def make_schedule(
    preset: Preset, optimizer: torch.optim.Optimizer, total_steps: int, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The preset's learning-rate schedule, stepped once an iteration."""
    lowest = optimizer.param_groups[0]["lr"] / 100
    return preset.make_schedule(optimizer, total_steps, preset.restart_epochs * steps_per_epoch, lowest)
