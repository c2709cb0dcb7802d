import { toIntensities, type Window } from "../canvas/window";
import type { JobKind } from "../api/types";
import { labelRange } from "../masks/statistics";
import { text } from "../strings";
import type { App } from "./app";
import { notify } from "./notices";
import { obstacle, obstacleToAcceptCase } from "./obstacles";
import { brushSize, theme } from "./preferences";
import * as view from "./signals";

/** Small commands that only change what is shown. */

export const BRUSH = { least: 1, most: 80 };

/** Steps in proportion to the size: fine for small brushes, quick for large ones. */
export function stepBrush(direction: 1 | -1): void {
  const step = Math.max(1, Math.round(brushSize.value * 0.2));
  brushSize.value = Math.min(BRUSH.most, Math.max(BRUSH.least, brushSize.value + direction * step));
}

/** Limits the brush to the intensities that the label has on this slice; a second time, ends the limit. */
export function limitToLabel(app: App): void {
  if (view.limit.value !== null) {
    view.limit.value = null;
    return;
  }
  const range = suggestedLimit(app);
  if (range === null) notify("info", text.tools.noVoxels);
  else view.limit.value = range;
}

function suggestedLimit(app: App): Window | null {
  const screen = app.workspace.screen;
  if (screen === null) return null;
  const range = labelRange(screen.mask, screen.picture.picture, view.label.value);
  return range === null ? null : toIntensities(range, screen.picture.scaling);
}

export function nextWindow(): void {
  const presets = view.detail.value?.windows ?? [];
  const at = presets.findIndex(({ low, high }) => low === view.window.value.low && high === view.window.value.high);
  const next = presets[(at + 1) % presets.length];
  if (next !== undefined) view.window.value = { low: next.low, high: next.high };
}

export function masksToggle(): void {
  view.masksShown.value = !view.masksShown.value;
}

export function togglePlanes(): void {
  view.planesShown.value = !view.planesShown.value;
}

export function themeToggle(): void {
  theme.value = theme.value === "dark" ? "light" : "dark";
}

export function openDialog(dialog: view.Dialog): void {
  view.dialog.value = dialog;
}

/** Starts a job, or says why it cannot be started; a training is asked about first. */
export function startJob(app: App, kind: JobKind): void {
  const why = obstacle(kind);
  if (why !== "") notify("info", why);
  else if (kind === "train") openDialog("train");
  else void app.commands.start(kind);
}

/** Asks whether to accept the open scan, or says why it cannot be accepted. */
export function acceptCaseStep(): void {
  const why = obstacleToAcceptCase();
  if (why !== "") notify("info", why);
  else openDialog("acceptCase");
}
