import type { ExportFormat, Job, JobKind, TrainingOptions } from "../api/types";
import { Failure } from "../api/failure";
import { text } from "../strings";
import { notify, reporting } from "./notices";
import * as view from "./signals";
import type { Workspace } from "./workspace";

/** What buttons and keys do besides drawing: reviewing, jobs, labels, export. */
export class Commands {
  constructor(private readonly workspace: Workspace) {}

  private get api() {
    return this.workspace.api;
  }

  async refreshProject(): Promise<void> {
    const state = await this.api.state();
    view.project.value = state;
    if (state.labels.length > 0 && view.activeLabel.value === null) view.label.value = state.labels[0]!.value;
  }

  async refreshJobs(): Promise<void> {
    view.jobs.value = await this.api.jobs();
  }

  /** The next slice to review after this one; if none is left, offers the next scan. */
  async nextToReview(): Promise<void> {
    const next = view.toReview.value.find((entry) => entry.slice !== view.slice.value);
    if (next !== undefined) return this.workspace.goTo(next.slice);
    return notify("info", text.review.nothing, "", { label: text.review.nextCase, run: () => void this.stepCase(1) });
  }

  async stepCase(step: 1 | -1): Promise<void> {
    const list = view.cases.value.filter((entry) => entry.state !== "unreadable");
    const position = list.findIndex((entry) => entry.id === view.detail.value?.id);
    const next = list[position + step];
    if (next !== undefined) await this.workspace.open(next.id);
  }

  async acceptSlice(): Promise<void> {
    const screen = this.workspace.screen;
    if (screen === null || view.readOnly.value) return;
    const detail = await reporting(() => this.api.acceptSlice(screen.id, screen.slice));
    if (detail === null || view.detail.value?.id !== detail.id) return;
    view.detail.value = detail;
    if (view.toReview.value.length > 0) await this.nextToReview();
    else notify("good", text.review.accepted(screen.slice));
  }

  async acceptCase(): Promise<void> {
    const id = view.detail.value?.id;
    if (id === undefined || view.readOnly.value) return;
    const detail = await reporting(() => this.api.acceptCase(id));
    if (detail === null) return;
    if (view.detail.value?.id === id) view.detail.value = detail;
    notify("good", text.review.acceptedCase(id), "", { label: text.review.nextCase, run: () => void this.stepCase(1) });
  }

  async goToSuggestion(): Promise<void> {
    const suggestion = view.project.value?.suggestion ?? null;
    if (suggestion === null) await this.start("suggest");
    else await this.workspace.open(suggestion.case, suggestion.slice);
  }

  async start(kind: JobKind, options: TrainingOptions = {}): Promise<void> {
    if (view.readOnly.value) return;
    const id = kind === "propagate" || kind === "refine" ? (view.detail.value?.id ?? null) : null;
    const job = await reporting(() => this.api.start(kind, id, options));
    if (job !== null) this.receiveJob(job);
  }

  async cancel(job: Job): Promise<void> {
    await reporting(() => this.api.cancel(job.id));
  }

  async resume(job: Job): Promise<void> {
    await reporting(() => this.api.resume(job.id));
  }

  /** Puts a job's news in the list, and says how it ended. */
  receiveJob(job: Job): void {
    const before = view.jobs.value.find((other) => other.id === job.id);
    view.jobs.value =
      before === undefined ? [job, ...view.jobs.value] : view.jobs.value.map((other) => (other.id === job.id ? job : other));
    if (before === undefined || before.state === job.state) return;
    const kind = text.jobs.kinds[job.kind];
    if (job.state === "done") this.announceDone(job, kind);
    if (job.state === "failed") notify("bad", text.jobs.failed(kind, job.message), job.hint);
  }

  /** Adds a label; false if the server refused it. */
  async addLabel(name: string, color: string): Promise<boolean> {
    const label = await reporting(() => this.api.addLabel(name, color));
    if (label === null) return false;
    await reporting(() => this.refreshProject());
    view.label.value = label.value;
    return true;
  }

  async changeLabel(value: number, change: { name?: string; color?: string }): Promise<boolean> {
    if ((await reporting(() => this.api.changeLabel(value, change))) === null) return false;
    notify("info", text.labels.changed(change.name ?? ""), "", { label: text.labels.undo, run: () => void this.undoLabels() });
    await reporting(() => this.refreshProject());
    return true;
  }

  /** Deletes a label; returns how much it would remove if that must be confirmed first. */
  async deleteLabel(value: number, name: string, confirmed: boolean): Promise<{ voxels: number; slices: number } | null> {
    try {
      await this.api.deleteLabel(value, confirmed);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.status === 409) return { voxels: Number(error.body["voxels"] ?? 0), slices: Number(error.body["slices"] ?? 0) };
      notify("bad", error.message, error.hint);
      return null;
    }
    notify("info", text.labels.deleted(name), "", { label: text.labels.undo, run: () => void this.undoLabels() });
    await reporting(() => this.refreshProject());
    return null;
  }

  async undoLabels(): Promise<void> {
    await reporting(() => this.api.undoLabels());
    await reporting(() => this.refreshProject());
  }

  async export(format: ExportFormat): Promise<void> {
    const result = await reporting(() => this.api.export(format));
    if (result !== null) notify("good", text.exporting.done(result.folder, result.files));
  }

  private announceDone(job: Job, kind: string): void {
    const offer = {
      suggest: this.offerSuggestion(),
      propagate: this.offerReview(job),
      refine: this.offerReview(job),
      train: null,
      predict: null,
    }[job.kind];
    notify("good", text.jobs.finished(kind), "", offer);
  }

  private offerSuggestion() {
    return { label: text.steps.go, run: () => void this.goToSuggestion() };
  }

  private offerReview(job: Job) {
    return job.case === view.detail.value?.id ? { label: text.review.next, run: () => void this.nextToReview() } : null;
  }
}
