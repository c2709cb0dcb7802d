import type { Mask, Rect } from "../masks/grid";

/**
 * Boundaries of each label, as straight pieces [c0, r0, c1, r1, …] along the voxels' edges; pieces in one line are joined.
 */
export function outlines(mask: Mask): Map<number, number[]> {
  return new Map([...boxes(mask)].map(([label, box]) => [label, outline(mask, label, box)]));
}

function outline({ columns, values }: Mask, label: number, box: Rect): number[] {
  const pieces: number[] = [];
  const has = (row: number, column: number): boolean =>
    row >= box.r0 && column >= box.c0 && row < box.r1 && column < box.c1 && values[row * columns + column] === label;
  for (let row = box.r0; row <= box.r1; row++) {
    const changes = (column: number): boolean => has(row - 1, column) !== has(row, column);
    runs(box.c0, box.c1, changes, (c0, c1) => pieces.push(c0, row, c1, row));
  }
  for (let column = box.c0; column <= box.c1; column++) {
    const changes = (row: number): boolean => has(row, column - 1) !== has(row, column);
    runs(box.r0, box.r1, changes, (r0, r1) => pieces.push(column, r0, column, r1));
  }
  return pieces;
}

/** The smallest rectangle of each label that is present; so a slice with a hundred small labels costs little more than one. */
function boxes({ rows, columns, values }: Mask): Map<number, Rect> {
  const c0 = new Int32Array(256).fill(columns);
  const c1 = new Int32Array(256);
  const r0 = new Int32Array(256).fill(rows);
  const r1 = new Int32Array(256);
  for (let row = 0, k = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, k++) {
      const label = values[k]!;
      if (label === 0) continue;
      if (column < c0[label]!) c0[label] = column;
      if (column >= c1[label]!) c1[label] = column + 1;
      if (row < r0[label]!) r0[label] = row;
      r1[label] = row + 1;
    }
  }
  const found = new Map<number, Rect>();
  for (let label = 1; label < 256; label++) {
    if (c1[label]! > 0) found.set(label, { c0: c0[label]!, r0: r0[label]!, c1: c1[label]!, r1: r1[label]! });
  }
  return found;
}

/** Calls `found` with each maximal run start…end − 1 within from…to − 1 for which `test` holds. */
function runs(from: number, to: number, test: (k: number) => boolean, found: (start: number, end: number) => void): void {
  let start = -1;
  for (let k = from; k <= to; k++) {
    const inside = k < to && test(k);
    if (inside && start < 0) start = k;
    if (!inside && start >= 0) {
      found(start, k);
      start = -1;
    }
  }
}
