import type { JobKind, SliceSummary } from "../api/types";
import { text } from "../strings";
import * as view from "./signals";

/** Why a job cannot be started now; empty if it can. */
export function obstacle(kind: JobKind): string {
  if (view.readOnly.value) return text.readOnlyHint;
  if (view.detail.value === null) return text.obstacles.noScan;
  if (runs(kind)) return text.obstacles.running;
  return OBSTACLES[kind]();
}

const OBSTACLES: Record<JobKind, () => string> = {
  propagate: () => {
    const all = slices();
    if (!all.some((entry) => isLabelled(entry) && entry.labels.length > 0)) return text.obstacles.noOutlineHere;
    if (all.every(isLabelled)) return text.obstacles.allLabelled;
    return view.promptable.value ? "" : text.obstacles.noModel;
  },
  refine: () => {
    if (!slices().some((entry) => !isLabelled(entry) && entry.labels.length > 0)) return text.obstacles.nothingToRefine;
    return view.promptable.value ? "" : text.obstacles.noModel;
  },
  suggest: () => "",
  train: () => ((view.project.value?.meter.slices ?? 0) > 0 ? "" : text.obstacles.noOutline),
  predict: () => ((view.project.value?.model ?? null) === null ? text.obstacles.notTrained : ""),
};

/** Why the open scan cannot be accepted; empty if it can. */
export function obstacleToAcceptCase(): string {
  if (view.readOnly.value) return text.readOnlyHint;
  if (view.detail.value === null) return text.obstacles.noScan;
  return slices().some((entry) => entry.source !== null && !isLabelled(entry)) ? "" : text.obstacles.nothingToAccept;
}

/** Whether a job of this kind waits or runs, for the open scan if it works on one. */
export function runs(kind: JobKind): boolean {
  const id = kind === "propagate" || kind === "refine" ? (view.detail.value?.id ?? null) : null;
  return view.jobs.value.some(
    (job) => job.kind === kind && (id === null || job.case === id) && (job.state === "running" || job.state === "queued"),
  );
}

/** Whether a person outlined or accepted a slice of the open scan. */
export function hasOutline(): boolean {
  return slices().some(isLabelled);
}

function slices(): readonly SliceSummary[] {
  return view.detail.value?.slices ?? [];
}

function isLabelled(entry: SliceSummary): boolean {
  return entry.source === "outlined" || entry.source === "reviewed";
}
