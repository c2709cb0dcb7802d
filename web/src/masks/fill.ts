import { indexOf, type Mask, type Paint, type Point } from "./grid";

/** The region that contains a point: voxels of one value, connected by their edges. */
export interface Region {
  readonly indices: readonly number[];
  /** Whether it reaches the edge of the slice: an outline with a gap does not enclose it. */
  readonly open: boolean;
}

export function regionAt(mask: Mask, start: Point): Region {
  const { columns, rows, values } = mask;
  const first = indexOf(mask, start);
  const value = values[first];
  const seen = new Uint8Array(values.length);
  const indices = [first];
  seen[first] = 1;
  let open = false;
  for (let k = 0; k < indices.length; k++) {
    const index = indices[k]!;
    const [row, column] = [Math.floor(index / columns), index % columns];
    open ||= row === 0 || column === 0 || row === rows - 1 || column === columns - 1;
    if (column > 0) visit(index - 1);
    if (column < columns - 1) visit(index + 1);
    if (row > 0) visit(index - columns);
    if (row < rows - 1) visit(index + columns);
  }
  return { indices, open };

  function visit(index: number): void {
    if (seen[index] === 0 && values[index] === value) {
      seen[index] = 1;
      indices.push(index);
    }
  }
}

/** Paints the region at a point. Returns false, and paints nothing, where background is not enclosed. */
export function fillRegion(mask: Mask, start: Point, paint: Paint): boolean {
  const region = regionAt(mask, start);
  if (region.open && mask.values[indexOf(mask, start)] === 0) return false;
  for (const index of region.indices) if (paint.allows(index)) mask.values[index] = paint.value;
  return true;
}
