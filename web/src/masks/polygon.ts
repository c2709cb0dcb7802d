import type { Mask, Paint, Point } from "./grid";

/** Paints the voxels whose centre lies inside a closed polygon (even-odd rule). */
export function fillPolygon(mask: Mask, corners: readonly Point[], paint: Paint): void {
  for (let row = 0; row < mask.rows; row++) {
    const crossings = crossingsAt(corners, row + 0.5);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      // Centres at column + 0.5 within [crossing, next crossing).
      const first = Math.max(0, Math.ceil(crossings[k]! - 0.5));
      const end = Math.min(mask.columns, Math.ceil(crossings[k + 1]! - 0.5));
      for (let column = first; column < end; column++) {
        const index = row * mask.columns + column;
        if (paint.allows(index)) mask.values[index] = paint.value;
      }
    }
  }
}

/** Columns at which the polygon's edges cross a height, in ascending order. */
function crossingsAt(corners: readonly Point[], height: number): number[] {
  const columns: number[] = [];
  corners.forEach((a, k) => {
    const b = corners[(k + 1) % corners.length]!;
    if (a.row <= height !== b.row <= height) {
      columns.push(a.column + ((height - a.row) / (b.row - a.row)) * (b.column - a.column));
    }
  });
  return columns.sort((a, b) => a - b);
}
