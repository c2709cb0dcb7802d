import type { Source, StrokeTool } from "../api/types";
import { apply, difference, History, type Edit } from "../masks/history";
import { interpolateBetween } from "../masks/interpolate";
import type { Conflict, Outbox } from "../saving/outbox";
import { text } from "../strings";
import { notify, reporting } from "./notices";
import { protect } from "./preferences";
import * as view from "./signals";
import type { Workspace } from "./workspace";

/** Changes to masks: each becomes an undo step and is sent to be saved. */
export class Drawing {
  private history = new History();
  /** When the drawing of the next stroke began. */
  private begun = performance.now();
  private unfinished: StrokeTool | null = null;
  /** The mask on screen without the stroke that is being drawn. */
  private settled = new Uint8Array(0);
  /** How often masks have been changed here. */
  changes = 0;

  constructor(
    private readonly workspace: Workspace,
    private readonly outbox: Outbox,
  ) {
    workspace.onScreen(() => this.settle());
    workspace.onLeave(() => {
      if (this.unfinished !== null) this.commit(this.unfinished);
    });
    workspace.onClose(() => {
      this.history = new History();
      this.publish();
    });
  }

  /** Begins a stroke. It ends with `commit`, or when another slice is shown. */
  begin(tool: StrokeTool): void {
    this.begun = performance.now();
    this.unfinished = tool;
  }

  /** Whether the mask on screen is being drawn on. */
  get drawing(): boolean {
    return this.unfinished !== null;
  }

  /** Records and saves what was drawn into the mask on screen since the stroke before, which took a person `seconds`. */
  commit(tool: StrokeTool, seconds = this.seconds()): void {
    const screen = this.workspace.screen;
    this.unfinished = null;
    if (screen === null) return;
    const edit = difference(screen.slice, this.settled, screen.mask.values);
    if (edit === null) return;
    this.history.push([edit]);
    this.settle();
    this.save(screen.slice, tool, seconds);
    this.publish();
  }

  undo(): void {
    void this.step(this.history.undo(), "before", "undo");
  }

  redo(): void {
    void this.step(this.history.redo(), "after", "redo");
  }

  /** Forgets undo steps of slices that somebody else changed: they would bring back what is no longer there. */
  forget(slices: readonly number[]): void {
    slices.forEach((slice) => this.history.forget(slice));
    this.publish();
  }

  /** Copies the selected label from the slice `offset` away. */
  async copyFrom(offset: 1 | -1): Promise<void> {
    const { store, screen } = this.workspace;
    const source = view.slice.value + offset;
    if (store === null || screen === null || source < 0 || source >= store.count || view.readOnly.value) return;
    const from = await reporting(() => store.loadMask(source));
    if (from === null || this.workspace.screen !== screen) return;
    const label = view.label.value;
    if (!from.values.includes(label)) return notify("info", text.tools.nothingToCopy);
    this.begin("copy");
    const { values } = screen.mask;
    from.values.forEach((value, k) => {
      if (value === label && (values[k] === 0 || !protect.value)) values[k] = label;
    });
    this.commit("copy");
    this.workspace.announce();
  }

  /** Removes everything from the slice on screen. */
  clear(): void {
    const screen = this.workspace.screen;
    if (screen === null || view.readOnly.value) return;
    this.begin("clear");
    screen.mask.values.fill(0);
    this.commit("clear");
    this.workspace.announce();
  }

  /** Fills the slices between the nearest outlined ones around the slice on screen. */
  async interpolate(): Promise<void> {
    const { store } = this.workspace;
    if (store === null || view.readOnly.value) return;
    const ends = this.ends();
    if (ends === null) return notify("info", text.tools.nothingBetween);
    const [low, high] = ends;
    const masks = await reporting(() => Promise.all(range(low, high + 1).map((z) => store.loadMask(z))));
    if (masks === null || this.workspace.store !== store) return;
    const label = view.label.value;
    const shapes = interpolateBetween(masks[0]!, masks.at(-1)!, label, high - low - 1, store.spacing);
    if (shapes === null) return notify("info", text.tools.nothingBetween);
    this.writeShapes(low + 1, shapes, label);
    notify("good", text.tools.interpolated(shapes.length, low + 1, high - 1));
  }

  /** After a conflict: theirs is shown, and undo brings back what was drawn here. */
  async resolve(conflict: Conflict): Promise<void> {
    const { store } = this.workspace;
    this.forget([conflict.slice]);
    if (store === null || store.id !== conflict.case) return;
    const theirs = await store.reload(conflict.slice);
    const edit = difference(conflict.slice, conflict.values, theirs.values);
    if (edit !== null) this.history.push([edit]);
    this.publish();
    if (this.workspace.screen?.slice === conflict.slice) this.workspace.announce();
  }

  /** Puts unsaved strokes back over what the server sent. */
  restore(): void {
    const { store, screen } = this.workspace;
    if (store === null) return;
    this.outbox.latest(store.id).forEach((values, slice) => store.draw(slice, values));
    if (screen !== null) this.workspace.announce();
  }

  private writeShapes(first: number, shapes: readonly Uint8Array[], label: number): void {
    const store = this.workspace.store!;
    const step: Edit[] = [];
    shapes.forEach((shape, k) => {
      const values = store.mask(first + k)!.values;
      const before = values.slice();
      shape.forEach((inside, index) => {
        if (inside === 1 && (before[index] === 0 || !protect.value)) values[index] = label;
        if (inside === 0 && before[index] === label) values[index] = 0;
      });
      const edit = difference(first + k, before, values);
      if (edit === null) return;
      step.push(edit);
      this.save(first + k, "interpolate", 0);
    });
    this.history.push(step);
    this.publish();
    this.workspace.announce();
  }

  /** The nearest slices below and above on which a person outlined the label, if slices lie between them. */
  private ends(): readonly [number, number] | null {
    const slices = view.detail.value?.slices ?? [];
    const drawn = slices.filter((entry) => byPerson(entry.source) && entry.labels.includes(view.label.value)).map((entry) => entry.slice);
    const at = view.slice.value;
    const low = drawn.filter((z) => z <= at).at(-1);
    const high = drawn.find((z) => z > at) ?? (low === at ? undefined : drawn.find((z) => z >= at));
    if (low !== undefined && high !== undefined && high - low > 1) return [low, high];
    // On the upper one of two outlined slices, those below it are meant.
    const under = drawn.filter((z) => z < at).at(-1);
    return low === at && under !== undefined && at - under > 1 ? [under, at] : null;
  }

  private async step(step: readonly Edit[] | null, side: "before" | "after", tool: "undo" | "redo"): Promise<void> {
    const store = this.workspace.store;
    if (step === null || store === null) return;
    this.publish();
    if (!step.some((edit) => edit.slice === view.slice.value)) await this.workspace.goTo(step[0]!.slice);
    await reporting(() => Promise.all(step.map((edit) => store.loadMask(edit.slice))));
    if (this.workspace.store !== store) return;
    for (const edit of step) {
      apply(edit, side, store.mask(edit.slice)!.values);
      this.save(edit.slice, tool, 0);
    }
    this.workspace.announce();
  }

  private save(slice: number, tool: StrokeTool, seconds: number): void {
    const store = this.workspace.store!;
    this.changes += 1;
    this.outbox.add({ case: store.id, slice, values: store.mask(slice)!.values, version: store.version(slice), tool, seconds });
    markDrawn(slice, store.mask(slice)!.values, tool === "clear" ? null : "outlined");
  }

  private settle(): void {
    this.settled = this.workspace.screen?.mask.values.slice() ?? new Uint8Array(0);
  }

  private seconds(): number {
    return (performance.now() - this.begun) / 1000;
  }

  private publish(): void {
    view.canUndo.value = this.history.canUndo;
    view.canRedo.value = this.history.canRedo;
  }
}

function byPerson(source: string | null): boolean {
  return source === "outlined" || source === "reviewed";
}

/** Shows a slice's new source before the server has answered. */
function markDrawn(slice: number, values: Uint8Array, source: Source | null): void {
  const detail = view.detail.value;
  if (detail === null) return;
  const present = new Uint8Array(256);
  values.forEach((value) => {
    present[value] = 1;
  });
  const labels = range(1, 256).filter((value) => present[value] === 1);
  const slices = detail.slices.map((entry) => (entry.slice === slice ? { ...entry, source, confidence: null, review: "", labels } : entry));
  view.detail.value = { ...detail, slices };
}

function range(start: number, end: number): number[] {
  return Array.from({ length: Math.max(0, end - start) }, (_, k) => start + k);
}
