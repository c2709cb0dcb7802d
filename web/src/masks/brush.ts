import type { Mask, Paint, Point, Rect, Spacing } from "./grid";

/**
 * Paints the voxels whose centre is within `radius` mm of the segment from `from` to `to`, and the voxels that contain its ends.
 *
 * A segment rather than single discs, so that a quick stroke has no gaps. Returns the rectangle that may have changed.
 */
export function paintSegment(mask: Mask, from: Point, to: Point, radius: number, spacing: Spacing, paint: Paint): Rect {
  const area = reach(mask, from, to, radius, spacing);
  for (let row = area.r0; row < area.r1; row++) {
    for (let column = area.c0; column < area.c1; column++) {
      const centre = { column: column + 0.5, row: row + 0.5 };
      if (squaredDistance(centre, from, to, spacing) <= radius * radius) paintVoxel(mask, row * mask.columns + column, paint);
    }
  }
  for (const end of [from, to]) {
    const [column, row] = [Math.floor(end.column), Math.floor(end.row)];
    if (column >= 0 && row >= 0 && column < mask.columns && row < mask.rows) paintVoxel(mask, row * mask.columns + column, paint);
  }
  return area;
}

function paintVoxel(mask: Mask, index: number, paint: Paint): void {
  if (paint.allows(index)) mask.values[index] = paint.value;
}

function reach(mask: Mask, from: Point, to: Point, radius: number, spacing: Spacing): Rect {
  const [dc, dr] = [radius / spacing.column, radius / spacing.row];
  return {
    c0: Math.max(0, Math.floor(Math.min(from.column, to.column) - dc)),
    r0: Math.max(0, Math.floor(Math.min(from.row, to.row) - dr)),
    c1: Math.min(mask.columns, Math.ceil(Math.max(from.column, to.column) + dc) + 1),
    r1: Math.min(mask.rows, Math.ceil(Math.max(from.row, to.row) + dr) + 1),
  };
}

/** Squared distance in mm from a point to a segment. */
function squaredDistance(point: Point, from: Point, to: Point, spacing: Spacing): number {
  const ax = (to.column - from.column) * spacing.column;
  const ay = (to.row - from.row) * spacing.row;
  const px = (point.column - from.column) * spacing.column;
  const py = (point.row - from.row) * spacing.row;
  const length = ax * ax + ay * ay;
  const along = length === 0 ? 0 : Math.min(1, Math.max(0, (px * ax + py * ay) / length));
  return (px - along * ax) ** 2 + (py - along * ay) ** 2;
}
