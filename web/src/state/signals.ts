import { computed, signal } from "@preact/signals";
import type { CaseDetail, CaseSummary, Job, Label, ProjectState, SliceSummary } from "../api/types";
import type { Window } from "../canvas/window";
import type { Point } from "../masks/grid";
import type { Conflict, SaveStatus } from "../saving/outbox";
import type { ToolName } from "../tools/tool";

/** What the page shows. Written by the modules of state/, read by ui/ and canvas/. */

export const project = signal<ProjectState | null>(null);
export const detail = signal<CaseDetail | null>(null);
/** The scan that was asked for and is not on screen yet. */
export const opening = signal<string | null>(null);
export const slice = signal(0);
export const label = signal(1);
export const tool = signal<ToolName>("brush");
export const window = signal<Window>({ low: 0, high: 1 });
export const masksShown = signal(true);
export const planesShown = signal(false);
export const referencesShown = signal(false);
/** Where the pointer is on the slice. */
export const pointed = signal<Point | null>(null);
export const crosshair = signal<Point | null>(null);
/** Intensities that the brush is limited to, in the scan's units; null for no limit. */
export const limit = signal<Window | null>(null);
export const thinking = signal(false);
export const jobs = signal<readonly Job[]>([]);
export const connected = signal(true);
export const saveStatus = signal<SaveStatus>({ kind: "saved" });
export const conflict = signal<Conflict | null>(null);
export const canUndo = signal(false);
export const canRedo = signal(false);
export type Dialog = "help" | "export" | "train" | "acceptCase";
export const dialog = signal<Dialog | null>(null);

export const cases = computed<readonly CaseSummary[]>(() => [...(project.value?.cases ?? [])].sort((a, b) => a.rank - b.rank));
export const labels = computed<readonly Label[]>(() => project.value?.labels ?? []);
export const activeLabel = computed<Label | null>(() => labels.value.find((entry) => entry.value === label.value) ?? null);
export const sliceCount = computed(() => detail.value?.slices.length ?? 0);
export const currentSlice = computed<SliceSummary | null>(() => detail.value?.slices[slice.value] ?? null);
export const promptable = computed(() => (project.value?.promptable.name ?? null) !== null);
export const readOnly = computed(() => project.value?.read_only ?? false);

/** Slices that a person should look at, the least certain first. */
export const toReview = computed<readonly SliceSummary[]>(() =>
  (detail.value?.slices ?? [])
    .filter((entry) => entry.review !== "" && entry.source !== "outlined" && entry.source !== "reviewed")
    .sort((a, b) => (a.confidence ?? 0) - (b.confidence ?? 0)),
);
