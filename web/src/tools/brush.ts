import { paintSegment } from "../masks/brush";
import type { StrokeTool } from "../api/types";
import type { Paint, Point } from "../masks/grid";
import type { Host, Overlay, Pointer, Tool } from "./tool";

/** Paints, or erases, along the pointer's way. */
export class Brush implements Tool {
  readonly cursor = "none";
  private last: Point | null = null;
  private paint: Paint | null = null;
  private erasing = false;

  constructor(private readonly eraser: boolean) {}

  down(pointer: Pointer, host: Host): void {
    this.erasing = this.eraser || pointer.shift;
    this.paint = this.erasing ? host.erase() : host.paint(host.limited);
    this.last = pointer.point;
    host.begin(this.strokeTool(host));
    this.move(pointer, host);
  }

  move(pointer: Pointer, host: Host): void {
    if (this.last === null || this.paint === null) return;
    host.changed(paintSegment(host.mask, this.last, pointer.point, host.size / 2, host.spacing, this.paint));
    this.last = pointer.point;
  }

  up(_: Pointer, host: Host): void {
    if (this.last === null) return;
    this.last = null;
    host.commit(this.strokeTool(host));
  }

  private strokeTool(host: Host): StrokeTool {
    return this.erasing ? "eraser" : host.limited ? "threshold" : "brush";
  }

  reset(): void {
    this.last = null;
  }

  leave(): void {
    this.reset();
  }

  draw(overlay: Overlay, pointer: Point | null, host: Host): void {
    if (pointer === null) return;
    const { context } = overlay;
    const { x, y } = overlay.at(pointer);
    const radius = Math.max(1.5, (host.size / 2) * overlay.zoom);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0, 0, 0, 0.6)";
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = this.eraser ? "#ffffff" : overlay.color;
    if (this.eraser) context.setLineDash([4, 3]);
    context.stroke();
    context.setLineDash([]);
  }
}
