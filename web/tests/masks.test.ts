import { describe, expect, it } from "vitest";
import { paintSegment } from "../src/masks/brush";
import { signedDistance } from "../src/masks/distance";
import { fillRegion, regionAt } from "../src/masks/fill";
import { emptyMask, type Mask, type Paint, type Point } from "../src/masks/grid";
import { interpolateBetween } from "../src/masks/interpolate";
import { fillPolygon } from "../src/masks/polygon";
import { decodeRuns, encodeRuns } from "../src/masks/runs";
import { dice, labelRange } from "../src/masks/statistics";

const EVERYWHERE: Paint = { value: 1, allows: () => true };
const SQUARE = { column: 1, row: 1 };

/** A mask from rows of digits. */
function drawn(...lines: string[]): Mask {
  return { rows: lines.length, columns: lines[0]!.length, values: Uint8Array.from(lines.join(""), Number) };
}

function shown(mask: Mask): string[] {
  return Array.from({ length: mask.rows }, (_, r) => mask.values.slice(r * mask.columns, (r + 1) * mask.columns).join(""));
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function randomMask(rows: number, columns: number, share: number, seed: number): Mask {
  const next = random(seed);
  return { rows, columns, values: Uint8Array.from({ length: rows * columns }, () => (next() < share ? 1 : 0)) };
}

describe("brush", () => {
  it("paints exactly the centres within the radius in mm, on anisotropic pixels", () => {
    const spacing = { column: 0.7, row: 1.3 };
    const [mask, at, radius] = [emptyMask(30, 40), { column: 17.2, row: 12.9 }, 5.1];
    paintSegment(mask, at, at, radius, spacing, EVERYWHERE);
    mask.values.forEach((value, k) => {
      const x = ((k % 40) + 0.5 - at.column) * spacing.column;
      const y = (Math.floor(k / 40) + 0.5 - at.row) * spacing.row;
      expect(value).toBe(Math.hypot(x, y) <= radius ? 1 : 0);
    });
  });

  it("leaves no gap in a quick stroke", () => {
    const [quick, slow] = [emptyMask(40, 60), emptyMask(40, 60)];
    const [from, to] = [
      { column: 5, row: 5 },
      { column: 52, row: 33 },
    ];
    paintSegment(quick, from, to, 3, SQUARE, EVERYWHERE);
    for (let k = 0; k <= 2000; k++) {
      const at = { column: 5 + (47 * k) / 2000, row: 5 + (28 * k) / 2000 };
      paintSegment(slow, at, at, 3, SQUARE, EVERYWHERE);
    }
    expect(quick.values).toEqual(slow.values);
  });

  it("paints the voxel under a point that is smaller than a voxel, and nothing off the slice", () => {
    const mask = emptyMask(3, 3);
    paintSegment(mask, { column: 1.9, row: 0.1 }, { column: 1.9, row: 0.1 }, 0.01, SQUARE, EVERYWHERE);
    expect(shown(mask)).toEqual(["010", "000", "000"]);
    const off = { column: -4, row: 8 };
    paintSegment(mask, off, off, 1, SQUARE, EVERYWHERE);
    expect(shown(mask)).toEqual(["010", "000", "000"]);
  });

  it("does not paint what is not allowed", () => {
    const mask = drawn("2000", "0000");
    const at = { column: 1, row: 1 };
    paintSegment(mask, at, at, 9, SQUARE, { value: 1, allows: (k) => mask.values[k] !== 2 });
    expect(shown(mask)).toEqual(["2111", "1111"]);
  });
});

describe("polygon", () => {
  it("contains the voxels whose centre is inside, as by winding angles", () => {
    const next = random(7);
    for (let trial = 0; trial < 20; trial++) {
      // Star-shaped, so that even-odd and winding agree.
      const corners = Array.from({ length: 9 }, (_, k): Point => {
        const [angle, radius] = [(2 * Math.PI * k) / 9, 3 + 9 * next()];
        return { column: 15.03 + radius * Math.cos(angle), row: 14.07 + radius * Math.sin(angle) };
      });
      const mask = emptyMask(30, 30);
      fillPolygon(mask, corners, EVERYWHERE);
      mask.values.forEach((value, k) => {
        expect(value).toBe(windsAround(corners, { column: (k % 30) + 0.5, row: Math.floor(k / 30) + 0.5 }) ? 1 : 0);
      });
    }
  });

  it("is clipped to the slice", () => {
    const mask = emptyMask(3, 4);
    fillPolygon(
      mask,
      [
        { column: -5, row: -5 },
        { column: 2, row: -5 },
        { column: 2, row: 9 },
        { column: -5, row: 9 },
      ],
      EVERYWHERE,
    );
    expect(shown(mask)).toEqual(["1100", "1100", "1100"]);
  });
});

function windsAround(corners: Point[], at: Point): boolean {
  let sum = 0;
  corners.forEach((a, k) => {
    const b = corners[(k + 1) % corners.length]!;
    const [ax, ay, bx, by] = [a.column - at.column, a.row - at.row, b.column - at.column, b.row - at.row];
    sum += Math.atan2(ax * by - ay * bx, ax * bx + ay * by);
  });
  return Math.abs(sum) > Math.PI;
}

describe("fill", () => {
  it("fills an enclosed region and stops at its outline", () => {
    const mask = drawn("00000", "01110", "01010", "01110", "00000");
    expect(fillRegion(mask, { column: 2.5, row: 2.5 }, EVERYWHERE)).toBe(true);
    expect(shown(mask)[2]).toBe("01110");
  });

  it("does not pass diagonal steps, and refuses background that is not enclosed", () => {
    const mask = drawn("00000", "00100", "01010", "00100", "00000");
    expect(regionAt(mask, { column: 2, row: 2 }).indices).toEqual([12]);
    expect(fillRegion(mask, { column: 0, row: 0 }, EVERYWHERE)).toBe(false);
    expect(shown(mask)[0]).toBe("00000");
  });
});

describe("signed distance", () => {
  it("equals the distances found by comparing all pairs", () => {
    const spacing = { column: 0.8, row: 1.7 };
    for (const seed of [1, 2, 3]) {
      const mask = randomMask(13, 17, 0.2, seed);
      const found = signedDistance(mask, 1, spacing).values;
      mask.values.forEach((value, k) => {
        let nearest = Infinity;
        mask.values.forEach((other, m) => {
          if (other === value) return;
          const x = ((m % 17) - (k % 17)) * spacing.column;
          const y = (Math.floor(m / 17) - Math.floor(k / 17)) * spacing.row;
          nearest = Math.min(nearest, Math.hypot(x, y));
        });
        expect(found[k]).toBeCloseTo((value === 1 ? -1 : 1) * (nearest - 0.4), 9);
      });
    }
  });
});

describe("interpolation between slices", () => {
  it("gives discs of the radii between, on the line between the centres", () => {
    const [below, above] = [disc(60, 80, 20, 20, 6), disc(60, 80, 60, 40, 12)];
    const between = interpolateBetween(below, above, 1, 3, SQUARE)!;
    expect(between).toHaveLength(3);
    [7.5, 9, 10.5].forEach((radius, k) => {
      const expected = disc(60, 80, 30 + 10 * k, 25 + 5 * k, radius);
      expect(dice({ ...below, values: between[k]! }, expected, 1)).toBeGreaterThan(0.97);
    });
  });

  it("keeps a shape that stays the same, also at the slice's edge", () => {
    const mask = drawn("1100", "1110", "0000");
    for (const values of interpolateBetween(mask, mask, 1, 2, SQUARE)!) expect(values).toEqual(mask.values);
  });

  it("needs the label on both slices", () => {
    expect(interpolateBetween(disc(9, 9, 4, 4, 2), emptyMask(9, 9), 1, 3, SQUARE)).toBeNull();
  });
});

function disc(rows: number, columns: number, column: number, row: number, radius: number): Mask {
  const mask = emptyMask(rows, columns);
  const at = { column: column + 0.5, row: row + 0.5 };
  paintSegment(mask, at, at, radius, SQUARE, EVERYWHERE);
  return mask;
}

describe("runs", () => {
  it("return what was encoded", () => {
    for (const share of [0, 0.01, 0.5, 1]) {
      const { values } = randomMask(31, 33, share, 5);
      expect(decodeRuns(encodeRuns(values))).toEqual(values);
    }
    expect(decodeRuns(encodeRuns(new Uint8Array(0)))).toHaveLength(0);
  });
});

describe("statistics", () => {
  it("gives the range of a label's intensities", () => {
    const picture = { rows: 1, columns: 4, values: Int16Array.of(10, 20, 900, 30) };
    expect(labelRange(drawn("1101"), picture, 1)!.low).toBeCloseTo(20 - 2 * Math.sqrt(200 / 3), 9);
    expect(labelRange(drawn("0000"), picture, 1)).toBeNull();
  });

  it("gives Dice as twice the overlap over both sizes", () => {
    expect(dice(drawn("1100"), drawn("0111"), 1)).toBeCloseTo(2 / 5, 12);
    expect(dice(drawn("0000"), drawn("0000"), 1)).toBe(1);
  });
});
