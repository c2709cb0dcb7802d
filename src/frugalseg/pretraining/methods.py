"""The registry of pre-training methods: sampler, views, pair rule, head and defaults of each.

To add one: an entry in `OWN_METHODS`, its name in `options.PretrainOptions`, and the rule, sampler or learner if new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from torch import nn

from frugalseg.errors import OptionError
from frugalseg.models.blocks import ProjectionNet
from frugalseg.models.heads import byol_head, linear_head, mlp_head
from frugalseg.options import PretrainOptions
from frugalseg.plugins import Registry, describe_failures
from frugalseg.pretraining import pair_rules, samplers
from frugalseg.pretraining.learners import ClassificationLearner, InBatchLearner, Learner, TripletLearner
from frugalseg.pretraining.momentum import BYOL, MoCo
from frugalseg.pretraining.recipes import AugmentName, TrainingRecipe
from frugalseg.pretraining.samplers import Sampler
from frugalseg.pretraining.supercl import SuperCL
from frugalseg.pretraining.views import ONE_VIEW, TWO_VIEWS, VIEW_GROUPS

Annotation = Literal["none", "image-level labels, every training slice"]
IMAGE_LEVEL: Annotation = "image-level labels, every training slice"
"""Needed for every slice trained on; this is annotation too."""


@dataclass(frozen=True)
class Head:
    """A projection head of two layers, or of one.

    Attributes:
        hidden: units of the hidden layer; None for a single linear layer.
        dim: length of its vectors; None for one number for each organ.
        batch_norm: whether the hidden layer has a batch norm.
    """

    hidden: int | None
    dim: int | None
    batch_norm: bool = False

    def build(self, embedding_dim: int, organs: int) -> nn.Module:
        """The head for an encoder's embedding of this length."""
        dim = organs if self.dim is None else self.dim
        if self.hidden is None:
            return linear_head(embedding_dim, dim)
        make = byol_head if self.batch_norm else mlp_head
        return make(embedding_dim, self.hidden, dim)


@dataclass(frozen=True)
class LearnerSettings:
    """What a learner is built from: the options, the temperature, the steps of the run, and the views of each slice."""

    options: PretrainOptions
    tau: float
    steps: int
    views: int


SUPERCL_OPTIONS = (
    "superpixels",
    "segments",
    "compactness",
    "intra_slices",
    "pixel_map",
    "max_pixels",
    "pixel_sample",
    "asp_norm",
    "intra_weight",
    "inter_weight",
)
"""Options of supercl only."""

METHOD_OPTIONS = (
    "temperature",
    "restart_epochs",
    "neg_scope",
    "min_distance_mm",
    "slices_per_scan",
    "position_threshold",
    "queue_size",
    "momentum",
    *SUPERCL_OPTIONS,
)
"""Options that only some methods use; with any other method they are refused."""

LearnerFactory = Callable[[ProjectionNet, LearnerSettings], Learner]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to pre-train.

    Attributes:
        summary: the idea in one line.
        source: where it was published.
        annotation: which human labels it needs.
        sampler: which slices make a batch.
        views: how many views of every drawn slice are embedded.
        augmentations: allowed random augmentations: name → builder.
        learner: builds what is trained, with the loss.
        head: its projection head; None for PolyCL's, a linear layer to 256.
        own_head: whether its loss needs this head, so that `--recipe` cannot replace it.
        recipe: its defaults.
        must_differ_in: what the training slices must differ in for the method to learn anything.
        min_batch: smallest batch with negatives.
        min_per_process: fewest slices of a process, where batch norms of vectors need several.
        reads: those of `METHOD_OPTIONS` that this method uses.
    """

    summary: str
    source: str
    sampler: Sampler
    learner: LearnerFactory
    recipe: TrainingRecipe
    head: Head | None = None
    own_head: bool = False
    annotation: Annotation = "none"
    views: int = 1
    augmentations: Mapping[AugmentName, Callable[[], nn.Module]] = field(default_factory=lambda: ONE_VIEW)
    must_differ_in: Literal["slices", "scans", "organs", "heights"] = "slices"
    min_batch: int = 1
    min_per_process: int = 1
    reads: frozenset[str] = frozenset({"temperature"})


def _make_triplet_learner(network: ProjectionNet, setting: LearnerSettings) -> Learner:
    return TripletLearner(network, setting.tau)


def _in_batch_factory(rule: pair_rules.PairRule, one_by_one: bool = False) -> LearnerFactory:
    def build(network: ProjectionNet, setting: LearnerSettings) -> Learner:
        return InBatchLearner(network, rule, setting.options, setting.tau, setting.views, one_by_one)

    return build


def _make_moco(network: ProjectionNet, setting: LearnerSettings) -> Learner:
    options = setting.options
    momentum = 0.999 if options.momentum is None else options.momentum
    return MoCo(network, DIM, options.queue_size, momentum, setting.tau)


def _make_byol(network: ProjectionNet, setting: LearnerSettings) -> Learner:
    predictor = byol_head(BYOL_DIM, BYOL_HIDDEN, BYOL_DIM)
    return BYOL(network, predictor, setting.options.momentum, setting.steps)


def _make_classification_learner(network: ProjectionNet, _: LearnerSettings) -> Learner:
    return ClassificationLearner(network)


def _make_supercl(network: ProjectionNet, setting: LearnerSettings) -> Learner:
    return SuperCL(network, setting.options, setting.tau)


TRIPLET_OPTIONS = frozenset({"temperature", "restart_epochs", "min_distance_mm"})
IN_BATCH_OPTIONS = TRIPLET_OPTIONS | {"slices_per_scan"}
POLYCL_PAPER = "PolyCL (arXiv 2505.19208)"
POLYCL_VARIANT = "ours: " + POLYCL_PAPER + " with in-batch negatives"
POLYCL_RECIPE = TrainingRecipe(lr=1e-4, weight_decay=0.0, schedule="warm_restarts", tau=0.05, augment="none")
VIEWS_RECIPE = TrainingRecipe(lr=1e-3, weight_decay=1e-5, schedule="cosine", tau=0.1, augment="strong")
DIM = 128
MLP_HEAD = Head(512, DIM)
BYOL_DIM, BYOL_HIDDEN = 256, 4096

OWN_METHODS: dict[str, Method] = {
    "polycl-o": Method(
        summary="triplets: a slice with the same organs attracts, one with others repels",
        source=POLYCL_PAPER,
        annotation=IMAGE_LEVEL,
        sampler=samplers.triplet_sampler("polycl-o"),
        learner=_make_triplet_learner,
        recipe=POLYCL_RECIPE,
        reads=TRIPLET_OPTIONS,
    ),
    "polycl-s": Method(
        summary="triplets: a slice of the same scan attracts, one of another scan repels",
        source=POLYCL_PAPER,
        sampler=samplers.triplet_sampler("polycl-s"),
        learner=_make_triplet_learner,
        recipe=POLYCL_RECIPE,
        reads=TRIPLET_OPTIONS,
    ),
    "polycl-m": Method(
        summary="triplets within a scan: the same organs attract, others repel",
        source=POLYCL_PAPER,
        annotation=IMAGE_LEVEL,
        sampler=samplers.triplet_sampler("polycl-m"),
        learner=_make_triplet_learner,
        recipe=POLYCL_RECIPE,
        reads=TRIPLET_OPTIONS | {"neg_scope"},
    ),
    "polycl-o-batch": Method(
        summary="polycl-o against the whole batch: all its slices with the same organs attract, all others repel",
        source=POLYCL_VARIANT,
        annotation=IMAGE_LEVEL,
        sampler=samplers.scan_balanced,
        learner=_in_batch_factory(pair_rules.organs_in_batch),
        recipe=POLYCL_RECIPE,
        must_differ_in="organs",
        reads=IN_BATCH_OPTIONS,
    ),
    "polycl-s-batch": Method(
        summary="polycl-s against the whole batch: the slices of a scan attract, those of other scans repel",
        source=POLYCL_VARIANT,
        sampler=samplers.scan_balanced,
        learner=_in_batch_factory(pair_rules.scan_in_batch),
        recipe=POLYCL_RECIPE,
        must_differ_in="scans",
        reads=IN_BATCH_OPTIONS,
    ),
    "polycl-m-batch": Method(
        summary="polycl-m against the whole batch: of each scan, the same organs attract, others repel",
        source=POLYCL_VARIANT,
        annotation=IMAGE_LEVEL,
        sampler=samplers.scan_balanced,
        learner=_in_batch_factory(pair_rules.both_in_batch),
        recipe=POLYCL_RECIPE,
        must_differ_in="organs",
        reads=IN_BATCH_OPTIONS | {"neg_scope"},
    ),
    "simclr": Method(
        summary="two views of a slice attract, all other slices repel",
        source="SimCLR (arXiv 2002.05709)",
        sampler=samplers.shuffled_slices,
        views=2,
        augmentations=TWO_VIEWS,
        min_batch=2,
        learner=_in_batch_factory(pair_rules.same_slice),
        head=MLP_HEAD,
        recipe=VIEWS_RECIPE,
    ),
    "supcon": Method(
        summary="two views; slices with the same organs attract, all others repel",
        source="SupCon (arXiv 2004.11362)",
        annotation=IMAGE_LEVEL,
        sampler=samplers.shuffled_slices,
        views=2,
        augmentations=TWO_VIEWS,
        min_batch=2,
        learner=_in_batch_factory(pair_rules.same_organs),
        head=MLP_HEAD,
        recipe=VIEWS_RECIPE,
        must_differ_in="organs",
    ),
    "pcl": Method(
        summary="two views; slices at about the same relative height of their scans attract, all others repel",
        source="PCL (arXiv 2106.09157)",
        sampler=samplers.shuffled_slices,
        views=2,
        augmentations=TWO_VIEWS,
        min_batch=2,
        learner=_in_batch_factory(pair_rules.near_position),
        head=Head(512, 512),
        recipe=VIEWS_RECIPE,
        must_differ_in="heights",
        reads=frozenset({"temperature", "position_threshold"}),
    ),
    "gcl": Method(
        summary="two views; the same quarter of other scans attracts, other quarters repel",
        source="GCL, global loss G^D (arXiv 2006.10511)",
        sampler=samplers.quarters_of_scans,
        views=2,
        augmentations=TWO_VIEWS,
        learner=_in_batch_factory(pair_rules.same_quarter, one_by_one=True),
        head=Head(1024, 128),
        recipe=VIEWS_RECIPE,
        must_differ_in="scans",
    ),
    "moco": Method(
        summary="a slice finds its other view, embedded by the momentum encoder, among a queue of earlier slices",
        source="MoCo v2 (arXiv 1911.05722, 2003.04297)",
        sampler=samplers.shuffled_slices,
        views=2,
        augmentations=TWO_VIEWS,
        learner=_make_moco,
        head=MLP_HEAD,
        own_head=True,
        recipe=replace(VIEWS_RECIPE, tau=0.2),
        reads=frozenset({"temperature", "queue_size", "momentum"}),
    ),
    "byol": Method(
        summary="a slice predicts the momentum encoder's embedding of its other view; no negatives",
        source="BYOL (arXiv 2006.07733)",
        own_head=True,
        sampler=samplers.shuffled_slices,
        views=2,
        augmentations=TWO_VIEWS,
        learner=_make_byol,
        min_per_process=2,
        head=Head(BYOL_HIDDEN, BYOL_DIM, batch_norm=True),
        recipe=VIEWS_RECIPE,
        reads=frozenset({"momentum"}),
    ),
    "supercl": Method(
        summary="slices at about the same height or of similar superpixel maps attract; so do pixels of a superpixel",
        source="SuperCL (arXiv 2504.14737)",
        sampler=samplers.shuffled_slices,
        views=4,
        augmentations=VIEW_GROUPS,
        min_batch=2,
        learner=_make_supercl,
        head=Head(512, 512),
        recipe=replace(VIEWS_RECIPE, lr=1e-2, optimizer="sgd"),
        reads=frozenset({"temperature", "position_threshold", *SUPERCL_OPTIONS}),
    ),
    "classify": Method(
        summary="supervised: predict which organs a slice shows; the control for methods that use these labels",
        source="control, no paper",
        annotation=IMAGE_LEVEL,
        sampler=samplers.shuffled_slices,
        learner=_make_classification_learner,
        head=Head(None, None),
        own_head=True,
        recipe=VIEWS_RECIPE,
        must_differ_in="organs",
        reads=frozenset(),
    ),
    "random-pairs": Method(
        summary="triplets of any three slices: the effect of training without meaningful pairs",
        source="control, no paper",
        sampler=samplers.triplet_sampler("random-pairs"),
        learner=_make_triplet_learner,
        recipe=POLYCL_RECIPE,
        reads=frozenset({"temperature", "restart_epochs"}),
    ),
}
METHODS = Registry("METHODS", Method, OWN_METHODS)
"""These, and those of plug-ins."""


def find_method(name: str, option: str = "--method") -> Method:
    """The method of this name; `OptionError` for an unknown one lists the known."""
    if name not in METHODS:
        raise OptionError(f"{option} {name} is unknown{describe_failures()}", f"choose one of: {', '.join(METHODS)}")
    return METHODS[name]


def resolve_method(options: PretrainOptions) -> Method:
    """The method; with `recipe`, the optimiser, schedule and head of that other method, unless one of the two needs its
    own head. τ and augmentation stay the method's."""
    method = find_method(options.method)
    if options.recipe is None:
        return method
    other = find_method(options.recipe, "--recipe")
    recipe = replace(other.recipe, tau=method.recipe.tau, augment=method.recipe.augment)
    reads = method.reads - {"restart_epochs"} | ({"restart_epochs"} if recipe.schedule == "warm_restarts" else set())
    head = method.head if method.own_head or other.own_head else other.head
    return replace(method, recipe=recipe, head=head, reads=reads)


def check_options(options: PretrainOptions) -> None:
    """Raise `OptionError` for an option that the method does not use, and for a batch without negatives."""
    method, defaults = resolve_method(options), {field.name: field.default for field in fields(PretrainOptions)}
    if options.batch_size < method.min_batch:
        raise OptionError(
            f"--batch-size {options.batch_size}: {options.method} compares the slices of a batch with each other",
            "give 20, or at least 2",
        )
    for name in METHOD_OPTIONS:
        if name not in method.reads and getattr(options, name) != defaults[name]:
            users = ", ".join(other for other, entry in METHODS.items() if name in entry.reads)
            raise OptionError(
                f"--{name.replace('_', '-')} is not used by {options.method}", f"leave it out; it applies to {users}"
            )


def reads_superpixels(options: PretrainOptions) -> bool:
    """Whether the run reads superpixels from the store."""
    return "superpixels" in METHODS[options.method].reads and options.superpixels == "store"
