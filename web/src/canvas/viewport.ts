import type { Point, Spacing } from "../masks/grid";

/** Size of the canvas in CSS pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** A position on the canvas in CSS pixels. */
export interface Position {
  readonly x: number;
  readonly y: number;
}

/** Which part of the slice is shown: the point at the canvas's centre, and CSS pixels per mm. */
export interface Viewport {
  readonly centre: Point;
  readonly zoom: number;
  readonly spacing: Spacing;
}

const ZOOM_RANGE = { least: 0.05, most: 200 };
const MARGIN = 0.96;

/** The whole slice, centred. */
export function fit(rows: number, columns: number, spacing: Spacing, size: Size): Viewport {
  const zoom = MARGIN * Math.min(size.width / (columns * spacing.column), size.height / (rows * spacing.row));
  return { centre: { column: columns / 2, row: rows / 2 }, zoom: bounded(zoom), spacing };
}

export function toScreen(view: Viewport, size: Size, point: Point): Position {
  return {
    x: size.width / 2 + (point.column - view.centre.column) * view.spacing.column * view.zoom,
    y: size.height / 2 + (point.row - view.centre.row) * view.spacing.row * view.zoom,
  };
}

export function toSlice(view: Viewport, size: Size, position: Position): Point {
  return {
    column: view.centre.column + (position.x - size.width / 2) / (view.spacing.column * view.zoom),
    row: view.centre.row + (position.y - size.height / 2) / (view.spacing.row * view.zoom),
  };
}

/** Zooms by a factor; what is under `position` stays there. */
export function zoomAt(view: Viewport, size: Size, position: Position, factor: number): Viewport {
  const zoom = bounded(view.zoom * factor);
  const fixed = toSlice(view, size, position);
  const shift = toSlice({ ...view, zoom }, size, position);
  return {
    ...view,
    zoom,
    centre: { column: view.centre.column + fixed.column - shift.column, row: view.centre.row + fixed.row - shift.row },
  };
}

/** Moves the slice by CSS pixels. */
export function pan(view: Viewport, dx: number, dy: number): Viewport {
  return {
    ...view,
    centre: {
      column: view.centre.column - dx / (view.spacing.column * view.zoom),
      row: view.centre.row - dy / (view.spacing.row * view.zoom),
    },
  };
}

function bounded(zoom: number): number {
  return Math.min(ZOOM_RANGE.most, Math.max(ZOOM_RANGE.least, zoom));
}
