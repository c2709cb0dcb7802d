import type { StrokeTool } from "../api/types";
import type { Mask, Paint, Rect } from "../masks/grid";
import type { Drawing } from "../state/drawing";
import { brushSize, protect } from "../state/preferences";
import * as state from "../state/signals";
import type { Screen } from "../state/workspace";
import type { Host } from "../tools/tool";
import { toStored } from "./window";

/** A canvas that is notified of changes. */
interface Repainted {
  maskChanged(area?: Rect): void;
  repaintOverlay(): void;
}

const EVERYTHING = { low: -Infinity, high: Infinity };

/** What the tools see of the slice on screen. */
export class ScreenHost implements Host {
  readonly id: string;
  readonly slice: number;
  readonly mask: Mask;
  readonly label = state.label.value;

  constructor(
    private readonly canvas: Repainted,
    private readonly screen: Screen,
    readonly spacing: Host["spacing"],
    private readonly drawing: Drawing,
  ) {
    this.id = screen.id;
    this.slice = screen.slice;
    this.mask = screen.mask;
  }

  get picture(): Host["picture"] {
    return this.screen.picture;
  }

  get size(): number {
    return brushSize.value;
  }

  get limited(): boolean {
    return state.limit.value !== null;
  }

  get changes(): number {
    return this.drawing.changes;
  }

  paint(limited = false): Paint {
    const { values } = this.mask;
    const { values: intensities } = this.screen.picture.picture;
    const range = limited ? state.limit.value : null;
    const { low, high } = range === null ? EVERYTHING : toStored(range, this.screen.picture.scaling);
    const [label, guarded] = [this.label, protect.value];
    return {
      value: label,
      allows: (index) =>
        (!guarded || values[index] === 0 || values[index] === label) && intensities[index]! >= low && intensities[index]! <= high,
    };
  }

  erase(): Paint {
    const [{ values }, label] = [this.mask, this.label];
    return { value: 0, allows: (index) => values[index] === label };
  }

  begin(tool: StrokeTool): void {
    this.drawing.begin(tool);
  }

  commit(tool: StrokeTool, seconds?: number): void {
    this.drawing.commit(tool, seconds);
  }

  changed(area?: Rect): void {
    this.canvas.maskChanged(area);
  }

  overlay(): void {
    this.canvas.repaintOverlay();
  }
}
