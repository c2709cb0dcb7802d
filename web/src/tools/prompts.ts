import type { Api } from "../api/client";
import type { StrokeTool } from "../api/types";
import { contains, type Mask, type Point } from "../masks/grid";
import { notify, reporting } from "../state/notices";
import { thinking } from "../state/signals";
import { measure } from "../state/timing";
import { text } from "../strings";
import type { Host, Overlay, Pointer, Tool } from "./tool";

/** Columns c0…c1 − 1, rows r0…r1 − 1. */
type Box = readonly [number, number, number, number];

interface Mark {
  readonly point: Point;
  readonly inside: boolean;
}

/** Voxels that a box round an existing mask leaves free on each side. */
const MARGIN = 3;

/**
 * What the promptable model is asked on one slice: a box and points, shared by the box and the points tool.
 *
 * Inside the box the model's mask replaces the selected label; elsewhere the label stays. Each answer is one undo step.
 */
export class PromptSession {
  private box: Box | null = null;
  private marks: Mark[] = [];
  /** The slice's mask without the selected label inside the box. */
  private base: Uint8Array | null = null;
  private asked = 0;

  constructor(private readonly api: Api) {}

  reset(): void {
    this.asked += 1;
    this.box = null;
    this.marks = [];
    this.base = null;
    thinking.value = false;
  }

  /** Forgets box and points, unless the model is at work on them. */
  leave(): void {
    if (!thinking.value) this.reset();
  }

  /** A new box begins anew. */
  setBox(box: Box, seconds: number, host: Host): void {
    this.reset();
    this.box = box;
    this.base = withoutLabel(host.mask, host.label, box);
    void this.ask(host, "box", seconds);
  }

  /** Without a box, the box of the mask that is there already, so that points correct it. */
  addPoint(mark: Mark, host: Host): void {
    if (this.base === null) {
      this.box = boxOf(host.mask, host.label);
      this.base = withoutLabel(host.mask, host.label, this.box);
    }
    this.marks.push(mark);
    host.overlay();
    void this.ask(host, "points", 0);
  }

  draw(overlay: Overlay): void {
    if (this.box !== null) drawBox(overlay, this.box);
    for (const { point, inside } of this.marks) drawMark(overlay, point, inside);
  }

  private async ask(host: Host, tool: StrokeTool, seconds: number): Promise<void> {
    const asked = ++this.asked;
    const base = this.base!;
    const started = performance.now();
    const changes = host.changes;
    thinking.value = true;
    const points = this.marks.map(({ point, inside }) => [Math.floor(point.column), Math.floor(point.row), inside ? 1 : 0] as const);
    const answer = await reporting(() => this.api.prompt(host.id, host.slice, { box: this.box, points, previous: this.marks.length > 1 }));
    // A later click or another slice has overtaken this answer.
    if (asked !== this.asked) return;
    thinking.value = false;
    if (host.changes !== changes) {
      this.reset();
      notify("info", text.tools.overtaken);
      return;
    }
    if (answer === null) return host.overlay();
    const paint = host.paint();
    host.mask.values.set(base);
    answer.forEach((inside, index) => {
      if (inside === 1 && paint.allows(index)) host.mask.values[index] = host.label;
    });
    host.changed();
    host.commit(tool, seconds);
    measure("prompt", started);
  }
}

/** Drags a box round an organ; the model outlines it. */
export class BoxTool implements Tool {
  readonly cursor = "crosshair";
  private from: Point | null = null;
  private to: Point | null = null;
  private begun = 0;

  constructor(private readonly session: PromptSession) {}

  down(pointer: Pointer, host: Host): void {
    this.begun = performance.now();
    this.from = this.to = pointer.point;
    host.overlay();
  }

  move(pointer: Pointer, host: Host): void {
    this.to = pointer.point;
    host.overlay();
  }

  up(_: Pointer, host: Host): void {
    const box = this.dragged(host.mask);
    this.from = this.to = null;
    if (box !== null) this.session.setBox(box, (performance.now() - this.begun) / 1000, host);
    host.overlay();
  }

  key(key: string, host: Host): boolean {
    if (key !== "Escape") return false;
    this.reset();
    host.overlay();
    return true;
  }

  reset(): void {
    this.from = this.to = null;
    this.session.reset();
  }

  leave(): void {
    this.from = this.to = null;
    this.session.leave();
  }

  draw(overlay: Overlay, _: Point | null, host: Host): void {
    const box = this.dragged(host.mask);
    if (box !== null) drawBox(overlay, box);
    else this.session.draw(overlay);
  }

  private dragged(mask: Mask): Box | null {
    if (this.from === null || this.to === null) return null;
    const columns = [this.from.column, this.to.column].sort((a, b) => a - b) as [number, number];
    const rows = [this.from.row, this.to.row].sort((a, b) => a - b) as [number, number];
    const box: Box = [
      Math.max(0, Math.floor(columns[0])),
      Math.max(0, Math.floor(rows[0])),
      Math.min(mask.columns, Math.ceil(columns[1])),
      Math.min(mask.rows, Math.ceil(rows[1])),
    ];
    return box[2] - box[0] > 1 && box[3] - box[1] > 1 ? box : null;
  }
}

/** Clicks that say what belongs to the organ, and what does not. */
export class PointsTool implements Tool {
  readonly cursor = "crosshair";

  constructor(private readonly session: PromptSession) {}

  down(pointer: Pointer, host: Host): void {
    if (contains(host.mask, pointer.point))
      this.session.addPoint({ point: pointer.point, inside: !(pointer.secondary || pointer.alt) }, host);
  }

  key(key: string, host: Host): boolean {
    if (key !== "Escape") return false;
    this.reset();
    host.overlay();
    return true;
  }

  reset(): void {
    this.session.reset();
  }

  leave(): void {
    this.session.leave();
  }

  draw(overlay: Overlay): void {
    this.session.draw(overlay);
  }
}

/** The box of a label's voxels with a margin, clipped to the slice; null without voxels. */
export function boxOf(mask: Mask, label: number): Box | null {
  let c0 = mask.columns;
  let r0 = mask.rows;
  let c1 = 0;
  let r1 = 0;
  mask.values.forEach((value, index) => {
    if (value !== label) return;
    const row = Math.floor(index / mask.columns);
    const column = index % mask.columns;
    c0 = Math.min(c0, column);
    r0 = Math.min(r0, row);
    c1 = Math.max(c1, column + 1);
    r1 = Math.max(r1, row + 1);
  });
  if (c1 === 0) return null;
  return [Math.max(0, c0 - MARGIN), Math.max(0, r0 - MARGIN), Math.min(mask.columns, c1 + MARGIN), Math.min(mask.rows, r1 + MARGIN)];
}

/** A copy of the mask in which the label is removed inside the box. */
export function withoutLabel(mask: Mask, label: number, box: Box | null): Uint8Array {
  const values = mask.values.slice();
  if (box === null) return values;
  const [c0, r0, c1, r1] = box;
  for (let row = r0; row < r1; row++) {
    for (let column = c0; column < c1; column++) {
      const index = row * mask.columns + column;
      if (values[index] === label) values[index] = 0;
    }
  }
  return values;
}

function drawBox({ context, at, color }: Overlay, [c0, r0, c1, r1]: Box): void {
  const [from, to] = [at({ column: c0, row: r0 }), at({ column: c1, row: r1 })];
  context.lineWidth = 3.5;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
  context.lineWidth = 1.5;
  context.setLineDash([6, 4]);
  context.strokeStyle = color;
  context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
  context.setLineDash([]);
}

/** A disc with a plus or a minus: not distinguished by colour alone. */
function drawMark({ context, at }: Overlay, point: Point, inside: boolean): void {
  const { x, y } = at(point);
  context.beginPath();
  context.arc(x, y, 7, 0, 2 * Math.PI);
  context.fillStyle = inside ? "#1f8f4e" : "#c4323f";
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = "#ffffff";
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3.5, y);
  context.lineTo(x + 3.5, y);
  if (inside) {
    context.moveTo(x, y - 3.5);
    context.lineTo(x, y + 3.5);
  }
  context.stroke();
}
