import type { Grid, Mask, Spacing } from "./grid";

/** Larger than any squared distance within a slice, and finite, so that differences of two are never NaN. */
const FAR = 1e20;

/**
 * Distance in mm of each voxel's centre to the nearest voxel centre of the other side: negative inside the label, positive
 * outside; shifted by half a voxel so that the sign changes on the boundary.
 */
export function signedDistance(mask: Mask, label: number, spacing: Spacing): Grid<Float64Array> {
  const outside = squaredDistanceTo(mask, spacing, (value) => value === label);
  const inside = squaredDistanceTo(mask, spacing, (value) => value !== label);
  const half = Math.min(spacing.column, spacing.row) / 2;
  const values = outside.map((d, k) => (d > 0 ? Math.sqrt(d) - half : half - Math.sqrt(inside[k]!)));
  return { rows: mask.rows, columns: mask.columns, values };
}

/** Exact squared distances to the voxels that `hits` accepts, by lower envelopes of parabolas (Felzenszwalb and Huttenlocher, 2012). */
function squaredDistanceTo(mask: Mask, spacing: Spacing, hits: (value: number) => boolean): Float64Array {
  const { rows, columns } = mask;
  const squares = Float64Array.from(mask.values, (value) => (hits(value) ? 0 : FAR));
  const envelope = new Envelope(Math.max(rows, columns));
  for (let column = 0; column < columns; column++) envelope.transform(squares, column, columns, rows, spacing.row);
  for (let row = 0; row < rows; row++) envelope.transform(squares, row * columns, 1, columns, spacing.column);
  return squares;
}

/** The transform of one line, with buffers that all lines share. */
class Envelope {
  private readonly line: Float64Array;
  private readonly sites: Int32Array;
  private readonly starts: Float64Array;

  constructor(longest: number) {
    this.line = new Float64Array(longest);
    this.sites = new Int32Array(longest);
    this.starts = new Float64Array(longest + 1);
  }

  transform(squares: Float64Array, offset: number, stride: number, count: number, step: number): void {
    const { line, sites, starts } = this;
    for (let k = 0; k < count; k++) line[k] = squares[offset + k * stride]!;
    let last = 0;
    sites[0] = 0;
    starts[0] = -Infinity;
    for (let k = 1; k < count; k++) {
      let meet = this.crossing(sites[last]!, k, step);
      while (meet <= starts[last]!) meet = this.crossing(sites[--last]!, k, step);
      sites[++last] = k;
      starts[last] = meet;
    }
    starts[last + 1] = Infinity;
    for (let k = 0, site = 0; k < count; k++) {
      while (starts[site + 1]! < k) site++;
      squares[offset + k * stride] = line[sites[site]!]! + ((k - sites[site]!) * step) ** 2;
    }
  }

  /** Where the parabolas over positions a < b meet, in voxels. */
  private crossing(a: number, b: number, step: number): number {
    const area = step * step;
    return (this.line[b]! - this.line[a]! + area * (b * b - a * a)) / (2 * area * (b - a));
  }
}
