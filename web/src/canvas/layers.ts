import type { SlicePicture } from "../api/client";
import type { Label } from "../api/types";
import type { Mask, Rect } from "../masks/grid";
import { outlines } from "./outline";
import { grey, type Window } from "./window";

/** The slice's picture, one pixel a voxel. */
export class PictureLayer {
  readonly canvas = document.createElement("canvas");
  private shown: SlicePicture | null = null;
  private window: Window | null = null;

  update(slice: SlicePicture, window: Window): void {
    if (slice === this.shown && window === this.window) return;
    const { rows, columns } = slice.picture;
    const context = sized(this.canvas, rows, columns);
    const image = context.createImageData(columns, rows);
    grey(slice.picture, slice.scaling, window, image.data);
    context.putImageData(image, 0, 0);
    [this.shown, this.window] = [slice, window];
  }
}

/** The slice's mask in its labels' colours, one pixel a voxel, and the labels' outlines. */
export class MaskLayer {
  readonly canvas = document.createElement("canvas");
  private image: ImageData | null = null;
  private outlines: Map<number, Path2D> | null = null;
  private shown: Mask | null = null;

  /** Outlines by label value, in voxels; made when they are asked for. */
  paths(): Map<number, Path2D> {
    this.outlines ??= this.shown === null ? new Map() : outlinesOf(this.shown);
    return this.outlines;
  }

  update(mask: Mask, labels: readonly Label[], area: Rect = { c0: 0, r0: 0, c1: mask.columns, r1: mask.rows }): void {
    const context = sized(this.canvas, mask.rows, mask.columns);
    if (this.image?.width !== mask.columns || this.image.height !== mask.rows)
      this.image = context.createImageData(mask.columns, mask.rows);
    const pixels = new Uint32Array(this.image.data.buffer);
    const colors = colorTable(labels);
    for (let row = area.r0; row < area.r1; row++) {
      for (let k = row * mask.columns + area.c0; k < row * mask.columns + area.c1; k++) pixels[k] = colors[mask.values[k]!]!;
    }
    context.putImageData(this.image, 0, 0, area.c0, area.r0, Math.max(0, area.c1 - area.c0), Math.max(0, area.r1 - area.r0));
    this.outlines = null;
    this.shown = mask;
  }
}

export function outlinesOf(mask: Mask): Map<number, Path2D> {
  return new Map([...outlines(mask)].map(([label, pieces]) => [label, pathOf(pieces)]));
}

function pathOf(pieces: readonly number[]): Path2D {
  const path = new Path2D();
  for (let k = 0; k < pieces.length; k += 4) {
    path.moveTo(pieces[k]!, pieces[k + 1]!);
    path.lineTo(pieces[k + 2]!, pieces[k + 3]!);
  }
  return path;
}

/** Opaque colours by label value, as pixels in the byte order of ImageData on little-endian machines; unknown labels are white. */
function colorTable(labels: readonly Label[]): Uint32Array {
  const table = new Uint32Array(256).fill(0xffffffff);
  table[0] = 0;
  for (const { value, color } of labels) {
    const rgb = Number.parseInt(color.slice(1), 16);
    table[value] = (0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
  }
  return table;
}

function sized(canvas: HTMLCanvasElement, rows: number, columns: number): CanvasRenderingContext2D {
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  return canvas.getContext("2d", { willReadFrequently: true })!;
}
