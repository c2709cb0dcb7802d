import type { Point } from "../masks/grid";
import { fillPolygon } from "../masks/polygon";
import type { Host, Overlay, Pointer, Tool } from "./tool";

const CLOSE_TO_FIRST_PX = 9;

/** Corners by clicks, or an outline drawn by hand while the button is held. */
export class Polygon implements Tool {
  readonly cursor = "crosshair";
  private corners: Point[] = [];
  private zoom = 1;

  down(pointer: Pointer, host: Host): void {
    if (this.corners.length === 0) host.begin("polygon");
    if (this.corners.length > 2 && this.nearFirst(pointer.point, host)) return this.close(host);
    this.corners.push(pointer.point);
    host.overlay();
  }

  move(pointer: Pointer, host: Host): void {
    const last = this.corners.at(-1);
    if (last === undefined) return;
    if (Math.hypot(pointer.point.column - last.column, pointer.point.row - last.row) >= 1) this.corners.push(pointer.point);
    host.overlay();
  }

  hover(_: Pointer, host: Host): void {
    if (this.corners.length > 0) host.overlay();
  }

  doubleClick(host: Host): void {
    if (this.corners.length > 2) this.close(host);
  }

  key(key: string, host: Host): boolean {
    if (this.corners.length === 0) return false;
    if (key === "Enter") this.close(host);
    else if (key === "Escape") this.drop(host);
    else if (key === "Backspace") this.corners.pop();
    else return false;
    host.overlay();
    return true;
  }

  reset(): void {
    this.corners = [];
  }

  leave(): void {
    this.reset();
  }

  draw(overlay: Overlay, pointer: Point | null): void {
    this.zoom = overlay.zoom;
    const first = this.corners[0];
    if (first === undefined) return;
    const { context } = overlay;
    const path = new Path2D();
    const ends = pointer === null ? this.corners : [...this.corners, pointer];
    ends.forEach((corner, k) => {
      const { x, y } = overlay.at(corner);
      if (k === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
    });
    context.lineWidth = 3.5;
    context.strokeStyle = "rgba(0, 0, 0, 0.6)";
    context.stroke(path);
    context.lineWidth = 1.5;
    context.strokeStyle = overlay.color;
    context.stroke(path);
    const { x, y } = overlay.at(first);
    context.fillStyle = overlay.color;
    context.fillRect(x - 4, y - 4, 8, 8);
  }

  private drop(host: Host): void {
    this.corners = [];
    host.commit("polygon");
  }

  private nearFirst(point: Point, host: Host): boolean {
    const first = this.corners[0]!;
    const [dc, dr] = [point.column - first.column, point.row - first.row];
    return Math.hypot(dc * host.spacing.column, dr * host.spacing.row) * this.zoom <= CLOSE_TO_FIRST_PX;
  }

  private close(host: Host): void {
    if (this.corners.length > 2) {
      fillPolygon(host.mask, this.corners, host.paint());
      host.changed();
      host.commit("polygon");
    }
    this.corners = [];
    host.overlay();
  }
}
