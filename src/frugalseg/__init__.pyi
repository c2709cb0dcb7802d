"""Types of the Python interface; written by benchmarks/api_stub.py, never by hand."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from frugalseg._version import __version__ as __version__
from frugalseg.commands.load import Model as Model
from frugalseg.commands.load import Prediction as Prediction
from frugalseg.errors import FrugalsegError as FrugalsegError
from frugalseg.plugins import load_plugin as load_plugin
from frugalseg.dataset.store import SliceStore
from frugalseg.diagnosis.section import Section
from frugalseg.engine.run import RunFolder
from frugalseg.options.annotate import AnnotateOptions
from frugalseg.options.calibrate import CalibrateOptions
from frugalseg.options.completion import CompletionOptions
from frugalseg.options.demo import DemoOptions
from frugalseg.options.doctor import DoctorOptions
from frugalseg.options.evaluate import EvaluateOptions
from frugalseg.options.export import ExportOptions
from frugalseg.options.finetune import FinetuneOptions
from frugalseg.options.predict import PredictOptions
from frugalseg.options.prepare import PrepareOptions
from frugalseg.options.prepare import SuperpixelOptions
from frugalseg.options.pretrain import PretrainOptions
from frugalseg.options.propagate import PropagateOptions
from frugalseg.options.refine import RefineOptions
from frugalseg.options.sam_mix import SamMixEvaluateOptions
from frugalseg.options.sam_mix import SamMixPredictOptions
from frugalseg.options.sam_mix import SamMixTrainOptions
from frugalseg.options.share import PullOptions
from frugalseg.options.share import PushOptions
from frugalseg.options.study import ReportOptions
from frugalseg.options.study import StudyOptions
from frugalseg.options.study import StudyStatusOptions
from frugalseg.options.suggest import SuggestOptions
from frugalseg.options.weights import WeightsFetchOptions
from frugalseg.options.weights import WeightsImportOptions
from frugalseg.options.weights import WeightsListOptions
from frugalseg.options.weights import WeightsVerifyOptions
from frugalseg.records.networks import SegmenterRecord
from frugalseg.records.origin_of_model import PulledModel
from frugalseg.records.propagation_calibration import PropagationCalibration
from frugalseg.records.recipe import ExportRecipe
from frugalseg.records.suggestions import SuggestionsRecord
from frugalseg.records.summary import SummaryRecord
from frugalseg.studies.status import StudyStatus
from frugalseg.weights.commands import WeightsTable

StrPath: TypeAlias = str | PathLike[str]

def load(
    *models: StrPath | Sequence[StrPath],
    modality: Literal["auto", "ct", "mr"] = ...,
    tta: bool = ...,
    tta_degrees: float | None = ...,
    keep: Literal["model", "all", "largest", "core"] = ...,
    batch_size: int | None = ...,
    device: str = ...,
    threads: int | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    backbone: str | None = ...,
    cache: StrPath | None = ...,
    target: Sequence[str] | str = ...,
) -> Model:
    """Load a trained model from its run folder; several are averaged."""

@overload
def demo(options: DemoOptions, /) -> Path: ...
@overload
def demo(
    *,
    out: StrPath = ...,
    images: StrPath | None = ...,
    labels: StrPath | None = ...,
    target: Sequence[str] | str = ...,
    modality: Literal["auto", "ct", "mr"] = ...,
    size: int = ...,
    budget: str | None = ...,
    pretrain_epochs: int = ...,
    steps: int = ...,
    phantoms: int = ...,
    device: str = ...,
    threads: int | None = ...,
    seed: int = ...,
    overwrite: bool = ...,
    resume: Literal["no", "yes", "auto"] = ...,
) -> Path:
    """Run the whole workflow, from scans to a report, on simulated scans or on your own."""

@overload
def annotate(options: AnnotateOptions, /) -> Path: ...
@overload
def annotate(
    *,
    series: Sequence[str] | str = ...,
    images: StrPath | None = ...,
    out: StrPath | None = ...,
    labels: StrPath | None = ...,
    masks: StrPath | None = ...,
    references: StrPath | None = ...,
    target: Sequence[str] | str = ...,
    demo: bool = ...,
    phantoms: int = ...,
    annotator: str | None = ...,
    model: str = ...,
    host: str = ...,
    port: int = ...,
    token: str | None = ...,
    no_browser: bool = ...,
    read_only: bool = ...,
    cache_gb: float = ...,
    device: str = ...,
    threads: int | None = ...,
    ray: str | None = ...,
) -> Path:
    """Outline slices in a local web page, propagate them, train, and correct the masks of all scans."""

@overload
def prepare(options: PrepareOptions, /) -> SliceStore: ...
@overload
def prepare(
    *,
    series: Sequence[str] | str = ...,
    images: StrPath,
    out: StrPath,
    labels: StrPath | None = ...,
    target: Sequence[str] | str = ...,
    size: int = ...,
    modality: Literal["auto", "ct", "mr"] = ...,
    window: Sequence[float] | None = ...,
    percentiles: Sequence[float] | None = ...,
    split: StrPath | None = ...,
    fractions: Sequence[float] = ...,
    patient_pattern: str = ...,
    skip_broken: bool = ...,
    workers: int | None = ...,
    threads: int | None = ...,
    ray: str | None = ...,
    seed: int = ...,
    superpixels: bool = ...,
    segments: int | None = ...,
    compactness: float = ...,
) -> SliceStore:
    """Convert a folder of scans to a slice store, which every training command reads."""

@overload
def prepare_superpixels(options: SuperpixelOptions, /) -> SliceStore: ...
@overload
def prepare_superpixels(
    data: StrPath,
    *,
    segments: int | None = ...,
    compactness: float = ...,
    workers: int | None = ...,
    threads: int | None = ...,
) -> SliceStore:
    """Add SLIC superpixels to a slice store, for pre-training by supercl; the rest of the store is left unchanged."""

@overload
def pretrain(options: PretrainOptions, /) -> RunFolder: ...
@overload
def pretrain(
    *,
    data: StrPath,
    out: StrPath,
    split: StrPath | None = ...,
    epochs: int | None = ...,
    steps: int | None = ...,
    middle_fraction: float = ...,
    device: str = ...,
    threads: int | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    context: int | None = ...,
    seed: int = ...,
    resume: Literal["no", "yes", "auto"] = ...,
    checkpoint_minutes: float = ...,
    log_to: Sequence[Literal["tensorboard", "wandb", "mlflow"]] | Literal["tensorboard", "wandb", "mlflow"] = ...,
    method: Literal["polycl-o", "polycl-s", "polycl-m", "polycl-o-batch", "polycl-s-batch", "polycl-m-batch", "simclr", "supcon", "pcl", "gcl", "moco", "byol", "supercl", "classify", "random-pairs"] | str = ...,
    backbone: Literal["unet", "resunet", "resnet18-unet", "resnet34-unet", "resnet50-unet", "resnet50-caffe-unet", "transunet", "transunet-small", "supercl-unet"] | str = ...,
    weights: StrPath | None = ...,
    norm: Literal["instance", "instance_affine", "batch"] | None = ...,
    batch_size: int = ...,
    lr: float | None = ...,
    recipe: Literal["polycl-o", "polycl-s", "polycl-m", "polycl-o-batch", "polycl-s-batch", "polycl-m-batch", "simclr", "supcon", "pcl", "gcl", "moco", "byol", "supercl", "classify", "random-pairs"] | str | None = ...,
    restart_epochs: int = ...,
    temperature: float | None = ...,
    neg_scope: Literal["same", "other", "any"] = ...,
    min_distance_mm: float = ...,
    augment: Literal["none", "light", "strong", "published"] | None = ...,
    slices_per_scan: int = ...,
    position_threshold: float = ...,
    queue_size: int = ...,
    momentum: float | None = ...,
    superpixels: Literal["store", "online"] = ...,
    segments: int | None = ...,
    compactness: float = ...,
    intra_slices: float = ...,
    pixel_map: Literal["coarsest", "quarter"] = ...,
    max_pixels: int = ...,
    pixel_sample: Literal["random", "stride"] = ...,
    asp_norm: Literal["cluster", "global"] = ...,
    intra_weight: float = ...,
    inter_weight: float = ...,
) -> RunFolder:
    """Pre-train an encoder on unlabelled slices by contrastive learning."""

@overload
def finetune(options: FinetuneOptions, /) -> RunFolder | list[RunFolder]: ...
@overload
def finetune(
    *,
    data: StrPath,
    out: StrPath,
    split: StrPath | None = ...,
    epochs: int | None = ...,
    steps: int | None = ...,
    middle_fraction: float = ...,
    device: str = ...,
    threads: int | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    context: int | None = ...,
    seed: int = ...,
    resume: Literal["no", "yes", "auto"] = ...,
    checkpoint_minutes: float = ...,
    log_to: Sequence[Literal["tensorboard", "wandb", "mlflow"]] | Literal["tensorboard", "wandb", "mlflow"] = ...,
    encoder: StrPath | None = ...,
    backbone: str = ...,
    copies: int | None = ...,
    cache: StrPath | None = ...,
    weights: StrPath | None = ...,
    init: StrPath | None = ...,
    preset: Literal["robust", "paper", "supercl", "best"] = ...,
    norm: Literal["instance", "instance_affine", "batch"] | None = ...,
    semi: Literal["none", "self-training", "mean-teacher"] | None = ...,
    rounds: int | None = ...,
    teacher: StrPath | None = ...,
    refine: str | None = ...,
    propagate: str | None = ...,
    engine: Literal["box", "sam2"] = ...,
    folds: int | None = ...,
    fold: int | None = ...,
    transductive: bool = ...,
    budget: str = ...,
    choose: Literal["random", "random-all", "interval", "middle", "suggest"] = ...,
    label_draw: int = ...,
    batch_size: int = ...,
    lr: float | None = ...,
    validate_every: int | None = ...,
) -> RunFolder | list[RunFolder]:
    """Train a segmentation model from a few labels."""

@overload
def calibrate(options: CalibrateOptions, /) -> SegmenterRecord | PropagationCalibration: ...
@overload
def calibrate(
    *,
    model: StrPath | None = ...,
    data: StrPath | None = ...,
    refine: str | None = ...,
    propagated: StrPath | None = ...,
    references: StrPath | None = ...,
    target: Sequence[str] | str = ...,
    device: str = ...,
    threads: int | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
) -> SegmenterRecord | PropagationCalibration:
    """Learn how far masks may be trusted, from labelled scans that their model was not trained on."""

@overload
def predict(options: PredictOptions, /) -> dict[str, Path]: ...
@overload
def predict(
    *,
    series: Sequence[str] | str = ...,
    output_type: Literal["scan", "nifti", "nrrd", "dicom-seg", "rtstruct"] = ...,
    segment_codes: StrPath | None = ...,
    preview: bool = ...,
    model: Sequence[StrPath] | StrPath,
    images: StrPath,
    out: StrPath,
    modality: Literal["auto", "ct", "mr"] = ...,
    tta: bool = ...,
    tta_degrees: float | None = ...,
    keep: Literal["model", "all", "largest", "core"] = ...,
    batch_size: int | None = ...,
    device: str = ...,
    threads: int | None = ...,
    ray: str | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    backbone: str | None = ...,
    cache: StrPath | None = ...,
    case: Sequence[str] | str = ...,
    refine: str | None = ...,
    target: Sequence[str] | str = ...,
    probabilities: bool = ...,
    overwrite: bool = ...,
    resume: Literal["no", "yes", "auto"] = ...,
) -> dict[str, Path]:
    """Segment whole scans with a trained model."""

@overload
def refine(options: RefineOptions, /) -> dict[str, Path]: ...
@overload
def refine(
    *,
    series: Sequence[str] | str = ...,
    output_type: Literal["scan", "nifti", "nrrd", "dicom-seg", "rtstruct"] = ...,
    segment_codes: StrPath | None = ...,
    preview: bool = ...,
    images: StrPath,
    out: StrPath,
    model: str = ...,
    modality: Literal["auto", "ct", "mr"] = ...,
    window: Sequence[float] | None = ...,
    percentiles: Sequence[float] | None = ...,
    margin_mm: float = ...,
    candidates: Literal["one", "several"] = ...,
    cache: StrPath | None = ...,
    target: Sequence[str] | str = ...,
    case: Sequence[str] | str = ...,
    device: str = ...,
    threads: int | None = ...,
    ray: str | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    overwrite: bool = ...,
    resume: Literal["no", "yes", "auto"] = ...,
    masks: StrPath,
    boxes: Literal["slice", "component", "component-3d"] = ...,
    min_iou: float = ...,
    min_area_mm2: float = ...,
    smooth_slices: bool = ...,
    oracle: StrPath | None = ...,
    batch_size: int | None = ...,
) -> dict[str, Path]:
    """Refine masks of whole scans: re-segment each part of a mask by prompting SAM with its bounding box."""

@overload
def propagate(options: PropagateOptions, /) -> dict[str, Path]: ...
@overload
def propagate(
    *,
    series: Sequence[str] | str = ...,
    output_type: Literal["scan", "nifti", "nrrd", "dicom-seg", "rtstruct"] = ...,
    segment_codes: StrPath | None = ...,
    preview: bool = ...,
    images: StrPath,
    out: StrPath,
    model: str = ...,
    modality: Literal["auto", "ct", "mr"] = ...,
    window: Sequence[float] | None = ...,
    percentiles: Sequence[float] | None = ...,
    margin_mm: float = ...,
    candidates: Literal["one", "several"] = ...,
    cache: StrPath | None = ...,
    target: Sequence[str] | str = ...,
    case: Sequence[str] | str = ...,
    device: str = ...,
    threads: int | None = ...,
    ray: str | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    overwrite: bool = ...,
    resume: Literal["no", "yes", "auto"] = ...,
    annotations: StrPath,
    slices: str = ...,
    slice_range: str = ...,
    engine: Literal["box", "sam2"] = ...,
    min_overlap: float = ...,
    review_below: float = ...,
    calibration: StrPath | None = ...,
) -> dict[str, Path]:
    """Propagate one annotated slice, or several, through the whole volume."""

@overload
def suggest(options: SuggestOptions, /) -> SuggestionsRecord: ...
@overload
def suggest(
    *,
    data: StrPath,
    out: StrPath,
    budget: int = ...,
    for_: Literal["model", "mask"] = ...,
    model: StrPath | None = ...,
    scan: str | None = ...,
    propagated: StrPath | None = ...,
    rule: Literal["auto", "spread", "alike", "unsure"] = ...,
    encoder: StrPath | None = ...,
    partial: bool = ...,
    study: StrPath | None = ...,
    split: StrPath | None = ...,
    label_draw: int = ...,
    cache: StrPath | None = ...,
    overwrite: bool = ...,
    device: str = ...,
    threads: int | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
) -> SuggestionsRecord:
    """Suggest which scans and slices to outline next, and say why."""

@overload
def evaluate(options: EvaluateOptions, /) -> SummaryRecord: ...
@overload
def evaluate(
    *,
    predictions: StrPath,
    references: StrPath,
    out: StrPath,
    target: Sequence[str] | str = ...,
    case: Sequence[str] | str = ...,
    groups: StrPath | None = ...,
    patient_pattern: str = ...,
    images: StrPath | None = ...,
    tolerance_mm: float = ...,
    lesions: bool = ...,
    lesion_iou: float = ...,
    slicewise: bool = ...,
    report: bool = ...,
    bootstrap: int = ...,
    workers: int | None = ...,
    threads: int | None = ...,
    ray: str | None = ...,
    seed: int = ...,
    overwrite: bool = ...,
) -> SummaryRecord:
    """Compare masks with references, scan by scan and in mm, and write a report."""

@overload
def export(options: ExportOptions, /) -> ExportRecipe: ...
@overload
def export(
    *,
    model: StrPath,
    out: StrPath,
    format: Literal["onnx", "torch", "monai-bundle"] = ...,
    scan: StrPath | None = ...,
    device: str = ...,
    threads: int | None = ...,
    overwrite: bool = ...,
) -> ExportRecipe:
    """Export a trained model for other programs, and compare it with the original on a scan."""

@overload
def push(options: PushOptions, /) -> str: ...
@overload
def push(
    repo: str,
    *,
    model: StrPath,
    evaluation: StrPath | None = ...,
    data_licence: str | None = ...,
    licence: str | None = ...,
    keep_names: bool = ...,
    private: bool = ...,
    overwrite: bool = ...,
) -> str:
    """Publish a trained model with a model card on the Hugging Face Hub, or write the same into a folder."""

@overload
def pull(options: PullOptions, /) -> PulledModel: ...
@overload
def pull(
    repo: str,
    *,
    out: StrPath,
    revision: str | None = ...,
) -> PulledModel:
    """Fetch a model that `push` published, to predict with it."""

@overload
def sam_mix_train(options: SamMixTrainOptions, /) -> RunFolder: ...
@overload
def sam_mix_train(
    *,
    data: StrPath,
    out: StrPath,
    split: StrPath | None = ...,
    epochs: int | None = ...,
    steps: int | None = ...,
    middle_fraction: float = ...,
    device: str = ...,
    threads: int | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    context: int | None = ...,
    seed: int = ...,
    resume: Literal["no", "yes", "auto"] = ...,
    checkpoint_minutes: float = ...,
    log_to: Sequence[Literal["tensorboard", "wandb", "mlflow"]] | Literal["tensorboard", "wandb", "mlflow"] = ...,
    base: str = ...,
    adapt: Literal["lora", "decoder"] = ...,
    lora_rank: int = ...,
    budget: str = ...,
    label_draw: int = ...,
    dense_prompt: Literal["mask", "added", "none"] = ...,
    map_threshold: float = ...,
    classifier_size: int = ...,
    map_stride: int = ...,
    batch_size: int = ...,
    masks_per_step: int = ...,
    lr: float = ...,
    classifier_lr: float = ...,
    map_weight: float = ...,
    mask_loss: Literal["dice+ce", "dice"] = ...,
    focal_gamma: float = ...,
    focal_alpha: float | None = ...,
    augment: bool = ...,
    self_training: bool = ...,
    validate_every: int | None = ...,
) -> RunFolder:
    """Train SAM-Mix: a classifier learned from image-level labels prompts a SAM fine-tuned on few masks."""

@overload
def sam_mix_predict(options: SamMixPredictOptions, /) -> dict[str, Path]: ...
@overload
def sam_mix_predict(
    *,
    series: Sequence[str] | str = ...,
    output_type: Literal["scan", "nifti", "nrrd", "dicom-seg", "rtstruct"] = ...,
    segment_codes: StrPath | None = ...,
    preview: bool = ...,
    model: StrPath,
    images: StrPath,
    out: StrPath,
    modality: Literal["auto", "ct", "mr"] = ...,
    base: str | None = ...,
    keep: Literal["model", "all", "largest", "core"] = ...,
    scan_boxes: Literal["model", "yes", "no"] = ...,
    oracle: StrPath | None = ...,
    batch_size: int | None = ...,
    device: str = ...,
    threads: int | None = ...,
    ray: str | None = ...,
    precision: Literal["auto", "32", "bf16", "16"] = ...,
    case: Sequence[str] | str = ...,
    target: Sequence[str] | str = ...,
    overwrite: bool = ...,
    resume: Literal["no", "yes", "auto"] = ...,
) -> dict[str, Path]:
    """Segment whole scans with a trained SAM-Mix, prompted by its classifier only."""

@overload
def sam_mix_evaluate(options: SamMixEvaluateOptions, /) -> dict[str, dict[str, object]]: ...
@overload
def sam_mix_evaluate(
    *,
    predictions: StrPath,
    references: StrPath,
    out: StrPath,
    overwrite: bool = ...,
) -> dict[str, dict[str, object]]:
    """Measure how well a SAM-Mix classifier detected the slices and scans that show an organ."""

@overload
def study(options: StudyOptions, /) -> Path: ...
@overload
def study(
    plan: StrPath,
    *,
    out: StrPath,
    jobs: int | None = ...,
    threads: int | None = ...,
    ray: str | None = ...,
    study: str | None = ...,
    only: Sequence[str] | str = ...,
) -> Path:
    """Train and test every method of a plan at every label budget, and write one report."""

@overload
def study_status(options: StudyStatusOptions, /) -> StudyStatus: ...
@overload
def study_status(
    folder: StrPath,
) -> StudyStatus:
    """Show a study's progress: counts by state and the estimated time left."""

@overload
def report(options: ReportOptions, /) -> Path: ...
@overload
def report(
    folder: StrPath,
) -> Path:
    """Rewrite the tables and the report of a study."""

@overload
def weights_list(options: WeightsListOptions, /) -> WeightsTable: ...
@overload
def weights_list(

) -> WeightsTable:
    """List the weights of promptable models: size, licence, SHA-256, and whether they are installed."""

@overload
def weights_fetch(options: WeightsFetchOptions, /) -> Path: ...
@overload
def weights_fetch(
    name: str,
) -> Path:
    """Download the weights of a promptable model and check their SHA-256."""

@overload
def weights_import(options: WeightsImportOptions, /) -> Path: ...
@overload
def weights_import(
    file: StrPath,
    *,
    name: str | None = ...,
) -> Path:
    """Install weights from a local file or folder."""

@overload
def weights_verify(options: WeightsVerifyOptions, /) -> dict[str, str]: ...
@overload
def weights_verify(
    name: str | None = ...,
) -> dict[str, str]:
    """Verify the SHA-256 of the installed weights."""

@overload
def completion(options: CompletionOptions, /) -> str: ...
@overload
def completion(
    shell: Literal["bash", "zsh", "fish"],
) -> str:
    """Print a script that completes commands, options and their values in your shell."""

@overload
def doctor(options: DoctorOptions, /) -> dict[str, Section]: ...
@overload
def doctor(
    *,
    json: bool = ...,
) -> dict[str, Section]:
    """Check this installation, and print what a report of an error needs."""
