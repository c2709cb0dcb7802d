import type { Mask } from "../masks/grid";

/**
 * Boundaries between voxels of a label and others, as straight pieces [c0, r0, c1, r1, …] along the voxels' edges; pieces
 * in one line are joined.
 */
export function outline(mask: Mask, label: number): number[] {
  const pieces: number[] = [];
  const { rows, columns, values } = mask;
  const has = (row: number, column: number): boolean =>
    row >= 0 && column >= 0 && row < rows && column < columns && values[row * columns + column] === label;
  for (let row = 0; row <= rows; row++) {
    runs(
      columns,
      (column) => has(row - 1, column) !== has(row, column),
      (c0, c1) => pieces.push(c0, row, c1, row),
    );
  }
  for (let column = 0; column <= columns; column++) {
    runs(
      rows,
      (row) => has(row, column - 1) !== has(row, column),
      (r0, r1) => pieces.push(column, r0, column, r1),
    );
  }
  return pieces;
}

/** Calls `found` with each maximal run start…end − 1 for which `test` holds. */
function runs(count: number, test: (k: number) => boolean, found: (start: number, end: number) => void): void {
  let start = -1;
  for (let k = 0; k <= count; k++) {
    const inside = k < count && test(k);
    if (inside && start < 0) start = k;
    if (!inside && start >= 0) {
      found(start, k);
      start = -1;
    }
  }
}
