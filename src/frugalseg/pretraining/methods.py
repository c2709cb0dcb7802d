"""Every pre-training method, by name: what it draws, how many views, who attracts whom, and its defaults.

To add one: a line in `METHODS`, its name in `options.PretrainOptions`, and whatever rule, sampler or learner is new.
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
from frugalseg.pretraining import pair_rules as masks
from frugalseg.pretraining import samplers
from frugalseg.pretraining.learners import Classifier, InBatch, Learner, Triplets
from frugalseg.pretraining.momentum import BYOL, MoCo
from frugalseg.pretraining.recipes import Changes, Recipe
from frugalseg.pretraining.samplers import Sampler
from frugalseg.pretraining.supercl import SuperCL
from frugalseg.pretraining.views import ONE_VIEW, TWO_VIEWS, VIEW_GROUPS

Annotation = Literal["none", "image-level labels, every training slice"]
ORGANS: Annotation = "image-level labels, every training slice"
"""A label that must be known for every slice trained on: this is annotation too."""


@dataclass(frozen=True)
class Head:
    """A projection head of two layers, or of one.

    Attributes:
        hidden: units of the hidden layer; None for a single linear layer.
        dim: length of its vectors; None for one number an organ.
        batch_norm: whether the hidden layer has a batch norm.
    """

    hidden: int | None
    dim: int | None
    batch_norm: bool = False

    def build(self, embedding_dim: int, organs: int) -> nn.Module:
        """From an encoder's embedding of this length."""
        dim = organs if self.dim is None else self.dim
        if self.hidden is None:
            return linear_head(embedding_dim, dim)
        make = byol_head if self.batch_norm else mlp_head
        return make(embedding_dim, self.hidden, dim)


@dataclass(frozen=True)
class Setting:
    """What a learner is built for: the options, the temperature, the steps of the run, and the views of a slice."""

    options: PretrainOptions
    tau: float
    steps: int
    views: int


SUPERCL = (
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
"""Options of supercl alone."""

OF_SOME_METHODS = (
    "temperature",
    "restart_epochs",
    "neg_scope",
    "min_distance_mm",
    "slices_per_scan",
    "position_threshold",
    "queue_size",
    "momentum",
    *SUPERCL,
)
"""Options that some methods have no use for; given to one of those they are an error."""

Build = Callable[[ProjectionNet, Setting], Learner]


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to pre-train.

    Attributes:
        summary: the idea in one line.
        source: where it was published.
        annotation: what people must have labelled for it, beyond the scans.
        sampler: which slices make a batch.
        views: how many copies of every drawn slice are embedded.
        changes: how they may be changed at random: name → what makes the changes.
        learner: what is trained, with the loss.
        head: its projection head; None for PolyCL's, a linear layer to 256.
        own_head: whether its loss needs vectors of this head's length, so that it can take no other's.
        recipe: its defaults.
        across: what the training slices must differ in for the method to mean anything.
        least_batch: fewest slices that give each other negatives.
        least_share: fewest slices of one process, where batch norms of vectors need several.
        reads: of the options that only some methods have (`OF_SOME_METHODS`), those that change this one.
    """

    summary: str
    source: str
    sampler: Sampler
    learner: Build
    recipe: Recipe
    head: Head | None = None
    own_head: bool = False
    annotation: Annotation = "none"
    views: int = 1
    changes: Mapping[Changes, Callable[[], nn.Module]] = field(default_factory=lambda: ONE_VIEW)
    across: Literal["slices", "scans", "organs", "heights"] = "slices"
    least_batch: int = 1
    least_share: int = 1
    reads: frozenset[str] = frozenset({"temperature"})


def _triplets(network: ProjectionNet, setting: Setting) -> Learner:
    return Triplets(network, setting.tau)


def _in_batch(rule: masks.PairRule, one_by_one: bool = False) -> Build:
    def build(network: ProjectionNet, setting: Setting) -> Learner:
        return InBatch(network, rule, setting.options, setting.tau, setting.views, one_by_one)

    return build


def _moco(network: ProjectionNet, setting: Setting) -> Learner:
    options = setting.options
    momentum = 0.999 if options.momentum is None else options.momentum
    return MoCo(network, DIM, options.queue_size, momentum, setting.tau)


def _byol(network: ProjectionNet, setting: Setting) -> Learner:
    predictor = byol_head(BYOL_DIM, BYOL_HIDDEN, BYOL_DIM)
    return BYOL(network, predictor, setting.options.momentum, setting.steps)


def _classifier(network: ProjectionNet, _: Setting) -> Learner:
    return Classifier(network)


def _supercl(network: ProjectionNet, setting: Setting) -> Learner:
    return SuperCL(network, setting.options, setting.tau)


TRIPLET = frozenset({"temperature", "restart_epochs", "min_distance_mm"})
IN_BATCH = TRIPLET | {"slices_per_scan"}
PAPER = "PolyCL (arXiv 2505.19208)"
OURS = "ours: " + PAPER + " with in-batch negatives"
POLYCL = Recipe(lr=1e-4, weight_decay=0.0, schedule="warm_restarts", tau=0.05, augment="none")
VIEWS = Recipe(lr=1e-3, weight_decay=1e-5, schedule="cosine", tau=0.1, augment="strong")
DIM = 128
MLP = Head(512, DIM)
BYOL_DIM, BYOL_HIDDEN = 256, 4096

METHODS: dict[str, Method] = {
    "polycl-o": Method(
        summary="triplets: a slice with the same organs attracts, one with others repels",
        source=PAPER,
        annotation=ORGANS,
        sampler=samplers.triplets("polycl-o"),
        learner=_triplets,
        recipe=POLYCL,
        reads=TRIPLET,
    ),
    "polycl-s": Method(
        summary="triplets: a slice of the same scan attracts, one of another scan repels",
        source=PAPER,
        sampler=samplers.triplets("polycl-s"),
        learner=_triplets,
        recipe=POLYCL,
        reads=TRIPLET,
    ),
    "polycl-m": Method(
        summary="triplets within a scan: the same organs attract, others repel",
        source=PAPER,
        annotation=ORGANS,
        sampler=samplers.triplets("polycl-m"),
        learner=_triplets,
        recipe=POLYCL,
        reads=TRIPLET | {"neg_scope"},
    ),
    "polycl-o-batch": Method(
        summary="polycl-o against the whole batch: all its slices with the same organs attract, all others repel",
        source=OURS,
        annotation=ORGANS,
        sampler=samplers.scan_balanced,
        learner=_in_batch(masks.organs_in_batch),
        recipe=POLYCL,
        across="organs",
        reads=IN_BATCH,
    ),
    "polycl-s-batch": Method(
        summary="polycl-s against the whole batch: the slices of a scan attract, those of other scans repel",
        source=OURS,
        sampler=samplers.scan_balanced,
        learner=_in_batch(masks.scan_in_batch),
        recipe=POLYCL,
        across="scans",
        reads=IN_BATCH,
    ),
    "polycl-m-batch": Method(
        summary="polycl-m against the whole batch: of each scan, the same organs attract, others repel",
        source=OURS,
        annotation=ORGANS,
        sampler=samplers.scan_balanced,
        learner=_in_batch(masks.both_in_batch),
        recipe=POLYCL,
        across="organs",
        reads=IN_BATCH | {"neg_scope"},
    ),
    "simclr": Method(
        summary="two views of a slice attract, all other slices repel",
        source="SimCLR (arXiv 2002.05709)",
        sampler=samplers.shuffled_slices,
        views=2,
        changes=TWO_VIEWS,
        least_batch=2,
        learner=_in_batch(masks.same_slice),
        head=MLP,
        recipe=VIEWS,
    ),
    "supcon": Method(
        summary="two views; slices with the same organs attract, all others repel",
        source="SupCon (arXiv 2004.11362)",
        annotation=ORGANS,
        sampler=samplers.shuffled_slices,
        views=2,
        changes=TWO_VIEWS,
        least_batch=2,
        learner=_in_batch(masks.same_organs),
        head=MLP,
        recipe=VIEWS,
        across="organs",
    ),
    "pcl": Method(
        summary="two views; slices at about the same relative height of their scans attract, all others repel",
        source="PCL (arXiv 2106.09157)",
        sampler=samplers.shuffled_slices,
        views=2,
        changes=TWO_VIEWS,
        least_batch=2,
        learner=_in_batch(masks.near_position),
        head=Head(512, 512),
        recipe=VIEWS,
        across="heights",
        reads=frozenset({"temperature", "position_threshold"}),
    ),
    "gcl": Method(
        summary="two views; the same quarter of other scans attracts, other quarters repel",
        source="GCL, global loss G^D (arXiv 2006.10511)",
        sampler=samplers.quarters_of_scans,
        views=2,
        changes=TWO_VIEWS,
        learner=_in_batch(masks.same_quarter, one_by_one=True),
        head=Head(1024, 128),
        recipe=VIEWS,
        across="scans",
    ),
    "moco": Method(
        summary="a slice finds its other view, seen by a slow copy of the network, among a queue of earlier slices",
        source="MoCo v2 (arXiv 1911.05722, 2003.04297)",
        sampler=samplers.shuffled_slices,
        views=2,
        changes=TWO_VIEWS,
        learner=_moco,
        head=MLP,
        own_head=True,
        recipe=replace(VIEWS, tau=0.2),
        reads=frozenset({"temperature", "queue_size", "momentum"}),
    ),
    "byol": Method(
        summary="a slice predicts how a slow copy of the network sees its other view; no negatives",
        source="BYOL (arXiv 2006.07733)",
        own_head=True,
        sampler=samplers.shuffled_slices,
        views=2,
        changes=TWO_VIEWS,
        learner=_byol,
        least_share=2,
        head=Head(BYOL_HIDDEN, BYOL_DIM, batch_norm=True),
        recipe=VIEWS,
        reads=frozenset({"momentum"}),
    ),
    "supercl": Method(
        summary="slices at about the same height, or of alike superpixel maps, attract; so do pixels of one superpixel",
        source="SuperCL (arXiv 2504.14737)",
        sampler=samplers.shuffled_slices,
        views=4,
        changes=VIEW_GROUPS,
        least_batch=2,
        learner=_supercl,
        head=Head(512, 512),
        recipe=Recipe(lr=1e-2, weight_decay=1e-5, schedule="cosine", tau=0.1, augment="strong", optimizer="sgd"),
        reads=frozenset({"temperature", "position_threshold", *SUPERCL}),
    ),
    "classify": Method(
        summary="supervised: predict which organs a slice holds; the rival of methods that know this too",
        source="control, no paper",
        annotation=ORGANS,
        sampler=samplers.shuffled_slices,
        learner=_classifier,
        head=Head(None, None),
        own_head=True,
        recipe=VIEWS,
        across="organs",
        reads=frozenset(),
    ),
    "random-pairs": Method(
        summary="triplets of any three slices: what training costs and changes without teaching anything",
        source="control, no paper",
        sampler=samplers.triplets("random-pairs"),
        learner=_triplets,
        recipe=POLYCL,
        reads=frozenset({"temperature", "restart_epochs"}),
    ),
}


def chosen_method(options: PretrainOptions) -> Method:
    """The method, trained as another one is where `recipe` names it: all but τ, the changes, and heads that are no one
    else's."""
    method = METHODS[options.method]
    if options.recipe is None:
        return method
    other = METHODS[options.recipe]
    recipe = replace(other.recipe, tau=method.recipe.tau, augment=method.recipe.augment)
    reads = method.reads - {"restart_epochs"} | ({"restart_epochs"} if recipe.schedule == "warm_restarts" else set())
    head = method.head if method.own_head or other.own_head else other.head
    return replace(method, recipe=recipe, head=head, reads=reads)


def check_options(options: PretrainOptions) -> None:
    """Raise `OptionError` where an option was changed that the method does not read, or a batch holds no negative."""
    method, defaults = chosen_method(options), {field.name: field.default for field in fields(PretrainOptions)}
    if options.batch_size < method.least_batch:
        raise OptionError(
            f"--batch-size {options.batch_size}: {options.method} compares the slices of a batch with each other",
            "give 20, or at least 2",
        )
    for name in OF_SOME_METHODS:
        if name not in method.reads and getattr(options, name) != defaults[name]:
            users = ", ".join(other for other, entry in METHODS.items() if name in entry.reads)
            raise OptionError(
                f"--{name.replace('_', '-')} is not used by {options.method}", f"leave it out; it applies to {users}"
            )


def reads_superpixels(options: PretrainOptions) -> bool:
    """Whether the run takes superpixels from the store."""
    return "superpixels" in METHODS[options.method].reads and options.superpixels == "store"
