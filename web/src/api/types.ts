/** What the server sends; docs: its OpenAPI page at /docs-api. Slices count from 0 at the inferior end. */

export type CaseState = "new" | "started" | "propagated" | "predicted" | "reviewed" | "unreadable";
export type Source = "outlined" | "propagated" | "predicted" | "reviewed";
export type JobKind = "propagate" | "refine" | "suggest" | "train" | "predict";
export type JobState = "queued" | "running" | "done" | "failed" | "cancelled" | "interrupted";
export type ExportFormat = "nifti" | "nnunet" | "dicom-seg";

export type Triple = readonly [number, number, number];

/** What made a stroke, in the log of strokes. */
export type StrokeTool =
  "brush" | "eraser" | "polygon" | "fill" | "threshold" | "box" | "points" | "interpolate" | "copy" | "undo" | "redo" | "clear";

export interface CaseSummary {
  readonly id: string;
  readonly state: CaseState;
  /** Why it cannot be read, or empty. */
  readonly message: string;
  /** Columns, rows, slices; null until the scan is opened. */
  readonly shape: Triple | null;
  /** mm, along the same axes. */
  readonly spacing: Triple | null;
  readonly outlined: number;
  readonly reviewed: number;
  readonly confidence: number | null;
  /** 0 is the scan to look at first. */
  readonly rank: number;
  /** Whether the mask's file is up to date. */
  readonly saved: boolean;
}

export interface Label {
  readonly value: number;
  readonly name: string;
  /** #rrggbb */
  readonly color: string;
}

export interface TrainedModel {
  readonly trained: string;
  readonly slices: number;
  readonly dice: number | null;
  readonly message: string;
}

export interface Suggestion {
  readonly case: string;
  readonly slice: number;
  readonly reason: string;
}

export interface ExpectedDice {
  readonly estimate: number;
  /** Mean of the lower bounds of the scans. */
  readonly low: number | null;
  /** Null: there is no upper bound. */
  readonly high: number | null;
  readonly reason: string;
}

export interface Meter {
  readonly minutes: number;
  readonly slices: number;
  readonly cases: number;
  readonly expected_dice: ExpectedDice | null;
  /** Why no Dice is promised, or empty. */
  readonly message: string;
}

export interface ProjectState {
  readonly version: string;
  readonly folder: string;
  readonly out: string;
  readonly cases: readonly CaseSummary[];
  readonly labels: readonly Label[];
  readonly promptable: { readonly name: string | null; readonly message: string };
  readonly suggestion: Suggestion | null;
  readonly model: TrainedModel | null;
  readonly meter: Meter;
  readonly references: boolean;
  readonly read_only: boolean;
  /** What keeps the server from saving, or empty. */
  readonly disk: string;
  /** For research use only. */
  readonly notice: string;
}

export interface SliceSummary {
  readonly slice: number;
  readonly source: Source | null;
  readonly confidence: number | null;
  /** Why a person should look at it, or empty. */
  readonly review: string;
  readonly version: number;
  /** Values present. */
  readonly labels: readonly number[];
}

export interface WindowPreset {
  readonly name: string;
  readonly low: number;
  readonly high: number;
}

export interface CaseDetail {
  readonly id: string;
  readonly shape: Triple;
  readonly spacing: Triple;
  /** Axes of the file, for example LAS. */
  readonly orientation: string;
  /** Doubts about its grid, or empty. */
  readonly message: string;
  readonly windows: readonly WindowPreset[];
  readonly range: readonly [number, number];
  readonly version: number;
  readonly saved: boolean;
  /** Other tabs that have this scan open. */
  readonly others: number;
  readonly slices: readonly SliceSummary[];
}

export interface Job {
  readonly id: string;
  readonly kind: JobKind;
  readonly case: string | null;
  readonly state: JobState;
  /** 0…1 */
  readonly progress: number;
  readonly message: string;
  readonly hint: string;
  readonly log: readonly string[];
  readonly started: string | null;
  readonly ended: string | null;
}

export type ServerEvent =
  | ({ readonly type: "job" } & Job)
  | { readonly type: "case"; readonly id: string; readonly version: number; readonly slices: readonly number[] }
  | { readonly type: "state" }
  | { readonly type: "hello"; readonly version: string };

/** What Train would do now. */
export interface TrainingPlan {
  readonly ready: boolean;
  readonly message: string;
  readonly size: number;
  readonly steps: number;
  /** Steps from the last model; null where the training cannot start from one, and why. */
  readonly warm_steps: number | null;
  readonly cold_reason: string;
  /** The network that is trained, or the frozen encoder on whose features a light one is. */
  readonly backbone: string;
  /** CT or MR; empty as long as no scan was looked at. */
  readonly modality: string;
  readonly targets: readonly string[];
  readonly slices: number;
  readonly cases: number;
  readonly validation: number;
}

export interface TrainingOptions {
  readonly size?: number;
  readonly steps?: number;
  readonly backbone?: string;
  /** Not from the last model, where that is possible. */
  readonly from_scratch?: boolean;
  /** few steps, or the full length of the preset best */
  readonly recipe?: "quick" | "best";
  readonly modality?: "ct" | "mr";
  /** HU that become black and white. */
  readonly window?: readonly [number, number];
}

/** A prompt: a box [c0, r0, c1, r1] in voxels, its maxima exclusive, and points [column, row, 1 inside | 0 outside]. */
export interface Prompt {
  readonly box: readonly [number, number, number, number] | null;
  readonly points: readonly (readonly [number, number, 0 | 1])[];
  /** Whether to start from the model's last mask of this slice. */
  readonly previous: boolean;
}
