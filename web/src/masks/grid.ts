/** One slice of a scan, as rows (anterior to posterior) of columns (patient's right to left). */
export interface Grid<T> {
  readonly rows: number;
  readonly columns: number;
  /** `values[row * columns + column]` */
  readonly values: T;
}

/** A label map: 0 is background, 1…255 are labels. */
export type Mask = Grid<Uint8Array>;

/** Stored intensities of a slice. */
export type Picture = Grid<Int16Array>;

/** A position within a slice; voxel (c, r) covers c…c + 1 and r…r + 1, its centre is at (c + 0.5, r + 0.5). */
export interface Point {
  readonly column: number;
  readonly row: number;
}

/** Millimetres between the centres of neighbouring columns and rows. */
export interface Spacing {
  readonly column: number;
  readonly row: number;
}

/** What painting does: `value` is written to each voxel that `allows` accepts. */
export interface Paint {
  readonly value: number;
  allows(index: number): boolean;
}

/** Columns c0…c1 − 1 and rows r0…r1 − 1. */
export interface Rect {
  readonly c0: number;
  readonly r0: number;
  readonly c1: number;
  readonly r1: number;
}

export function emptyMask(rows: number, columns: number): Mask {
  return { rows, columns, values: new Uint8Array(rows * columns) };
}

export function copyMask(mask: Mask): Mask {
  return { ...mask, values: mask.values.slice() };
}

/** Whether a point lies on the slice. */
export function contains(grid: Grid<unknown>, point: Point): boolean {
  return point.column >= 0 && point.row >= 0 && point.column < grid.columns && point.row < grid.rows;
}

/** Index of the voxel that a point lies in. */
export function indexOf(grid: Grid<unknown>, point: Point): number {
  return Math.floor(point.row) * grid.columns + Math.floor(point.column);
}
