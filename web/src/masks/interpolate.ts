import { signedDistance } from "./distance";
import type { Grid, Mask, Point, Spacing } from "./grid";

/** A label's shape on one slice: its signed distances and its centroid. */
interface Shape {
  readonly distance: Grid<Float64Array>;
  readonly centroid: Point;
}

/**
 * Shapes of a label on the slices between two outlined ones.
 *
 * The signed distances of both are blended (Herman, Zheng, Bucholtz, 1992), each moved so that the centroids follow a straight line:
 * without this an organ that shifts by more than its width would vanish halfway.
 *
 * @param between how many slices lie between the two.
 * @returns one Uint8Array of 0 and 1 per slice, from the one next to `below` to the one next to `above`; null if a slice lacks the label.
 */
export function interpolateBetween(below: Mask, above: Mask, label: number, between: number, spacing: Spacing): Uint8Array[] | null {
  const [first, second] = [shapeOf(below, label, spacing), shapeOf(above, label, spacing)];
  if (first === null || second === null) return null;
  return Array.from({ length: between }, (_, k) => blend(first, second, (k + 1) / (between + 1)));
}

function shapeOf(mask: Mask, label: number, spacing: Spacing): Shape | null {
  let [count, columns, rows] = [0, 0, 0];
  mask.values.forEach((value, k) => {
    if (value !== label) return;
    count += 1;
    columns += k % mask.columns;
    rows += Math.floor(k / mask.columns);
  });
  if (count === 0) return null;
  return { distance: signedDistance(mask, label, spacing), centroid: { column: columns / count, row: rows / count } };
}

function blend(first: Shape, second: Shape, t: number): Uint8Array {
  const { rows, columns } = first.distance;
  const centre = {
    column: (1 - t) * first.centroid.column + t * second.centroid.column,
    row: (1 - t) * first.centroid.row + t * second.centroid.row,
  };
  const [a, b] = [moved(first, centre), moved(second, centre)];
  const inside = new Uint8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      if ((1 - t) * a(row, column) + t * b(row, column) < 0) inside[row * columns + column] = 1;
    }
  }
  return inside;
}

/** Reads a shape's distances as if its centroid were at `centre`; off the slice, those of the nearest voxel of the slice. */
function moved(shape: Shape, centre: Point): (row: number, column: number) => number {
  const { rows, columns, values } = shape.distance;
  const down = Math.round(shape.centroid.row - centre.row);
  const right = Math.round(shape.centroid.column - centre.column);
  return (row, column) => {
    const r = Math.min(rows - 1, Math.max(0, row + down));
    const c = Math.min(columns - 1, Math.max(0, column + right));
    return values[r * columns + c]!;
  };
}
