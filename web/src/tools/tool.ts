import type { Position } from "../canvas/viewport";
import type { SlicePicture } from "../api/client";
import type { StrokeTool } from "../api/types";
import type { Mask, Paint, Point, Rect, Spacing } from "../masks/grid";

export const TOOL_NAMES = ["box", "points", "brush", "eraser", "polygon", "fill", "crosshair"] as const;
export type ToolName = (typeof TOOL_NAMES)[number];

export interface Pointer {
  readonly point: Point;
  readonly shift: boolean;
  readonly alt: boolean;
  /** The right button. */
  readonly secondary: boolean;
}

/** What a tool works on. */
export interface Host {
  readonly id: string;
  readonly slice: number;
  readonly mask: Mask;
  readonly picture: SlicePicture;
  readonly spacing: Spacing;
  readonly label: number;
  /** Brush diameter in mm. */
  readonly size: number;
  /** Whether the brush is limited to intensities. */
  readonly limited: boolean;
  /** Painting the selected label, as far as protection and, for the brush, the intensity limit allow. */
  paint(limited?: boolean): Paint;
  /** Erasing the selected label. */
  erase(): Paint;
  /** How often the masks have been changed: tells whether something was drawn meanwhile. */
  readonly changes: number;
  /** Marks the beginning of a stroke; if another slice is shown before it ends, what is drawn by then counts. */
  begin(tool: StrokeTool): void;
  /** Ends a stroke: one undo step, saved. */
  commit(tool: StrokeTool, seconds?: number): void;
  /** Repaints the mask, all of it or a rectangle. */
  changed(area?: Rect): void;
  /** Repaints what the tool shows over the slice. */
  overlay(): void;
}

/** Draws over the slice, in CSS pixels. */
export interface Overlay {
  readonly context: CanvasRenderingContext2D;
  /** Colour of the selected label. */
  readonly color: string;
  /** CSS pixels per mm. */
  readonly zoom: number;
  at(point: Point): Position;
}

/** A drawing tool. Moves without a pressed button come to `hover`. */
export interface Tool {
  readonly cursor: string;
  down(pointer: Pointer, host: Host): void;
  move?(pointer: Pointer, host: Host): void;
  up?(pointer: Pointer, host: Host): void;
  hover?(pointer: Pointer, host: Host): void;
  doubleClick?(host: Host): void;
  /** A key while this tool is selected; true if the tool used it. */
  key?(key: string, host: Host): boolean;
  /** Drops what is begun, when another slice is shown. */
  reset?(): void;
  /** Another tool was selected: drops what is begun, except a question that the model is answering. */
  leave?(): void;
  draw?(overlay: Overlay, pointer: Point | null, host: Host): void;
}
