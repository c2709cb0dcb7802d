import { describe, expect, it } from "vitest";
import { outlines } from "../src/canvas/outline";
import { fit, pan, toScreen, toSlice, zoomAt } from "../src/canvas/viewport";
import { dragged, grey, toIntensities, toStored } from "../src/canvas/window";

const SIZE = { width: 800, height: 600 };
const SPACING = { column: 0.7, row: 1.4 };

describe("viewport", () => {
  it("shows the whole slice with true proportions", () => {
    const view = fit(256, 512, SPACING, SIZE);
    const [first, last] = [toScreen(view, SIZE, { column: 0, row: 0 }), toScreen(view, SIZE, { column: 512, row: 256 })];
    expect(last.x - first.x).toBeCloseTo(((last.y - first.y) * (512 * 0.7)) / (256 * 1.4), 9);
    expect(Math.min(first.x, first.y)).toBeGreaterThan(0);
    expect(last.y).toBeLessThan(600);
    expect(first.x + last.x).toBeCloseTo(800, 9);
  });

  it("screen and slice positions are inverse, after any zoom and pan", () => {
    let view = fit(100, 90, SPACING, SIZE);
    view = pan(zoomAt(view, SIZE, { x: 33, y: 410 }, 3.7), -51, 22);
    const point = { column: 12.3, row: 77.7 };
    const back = toSlice(view, SIZE, toScreen(view, SIZE, point));
    expect(back.column).toBeCloseTo(point.column, 9);
    expect(back.row).toBeCloseTo(point.row, 9);
  });

  it("zooming keeps what is under the pointer; panning moves by the pointer's pixels", () => {
    const view = fit(100, 90, SPACING, SIZE);
    const pointer = { x: 611, y: 99 };
    const under = toSlice(view, SIZE, pointer);
    const zoomed = toScreen(zoomAt(view, SIZE, pointer, 0.3), SIZE, under);
    expect([zoomed.x, zoomed.y]).toEqual([expect.closeTo(611, 6), expect.closeTo(99, 6)]);
    const moved = toScreen(pan(view, 10, -4), SIZE, under);
    expect([moved.x, moved.y]).toEqual([expect.closeTo(621, 6), expect.closeTo(95, 6)]);
  });
});

describe("window", () => {
  it("maps low to black, high to white and clips beyond", () => {
    const picture = { rows: 1, columns: 5, values: Int16Array.of(-500, 0, 60, 100, 3000) };
    const rgba = new Uint8ClampedArray(20);
    grey(picture, { slope: 2, intercept: -60 }, { low: -60, high: 140 }, rgba);
    expect([0, 4, 8, 12, 16].map((k) => rgba[k])).toEqual([0, 0, 153, 255, 255]);
    expect(Array.from(rgba.slice(8, 12))).toEqual([153, 153, 153, 255]);
  });

  it("intensities and stored integers are inverse, whatever the sign of the slope", () => {
    for (const slope of [0.25, -3]) {
      const scaling = { slope, intercept: 7 };
      const stored = toStored({ low: -20, high: 100 }, scaling);
      expect(stored.low).toBeLessThan(stored.high);
      const back = toIntensities(stored, scaling);
      expect([back.low, back.high]).toEqual([expect.closeTo(-20, 9), expect.closeTo(100, 9)]);
      expect(Math.min((-20 - 7) / slope, (100 - 7) / slope)).toBeCloseTo(stored.low, 9);
    }
  });

  it("dragging right widens, dragging down raises the level", () => {
    const wide = dragged({ low: -100, high: 100 }, 100, 0);
    expect(wide.high - wide.low).toBeGreaterThan(200);
    expect(wide.high + wide.low).toBeCloseTo(0, 9);
    expect(dragged({ low: -100, high: 100 }, 0, 40).low).toBeCloseTo(-80, 9);
  });
});

describe("outline", () => {
  it("has the perimeter of the label, with straight pieces joined", () => {
    const mask = { rows: 4, columns: 5, values: Uint8Array.from("00000" + "01120" + "01100" + "00000", Number) };
    const pieces = outlines(mask).get(1)!;
    expect(pieces).toHaveLength(4 * 4);
    let length = 0;
    for (let k = 0; k < pieces.length; k += 4) length += Math.abs(pieces[k + 2]! - pieces[k]!) + Math.abs(pieces[k + 3]! - pieces[k + 1]!);
    expect(length).toBe(8);
  });

  it("is closed at the edge of the slice", () => {
    expect(outlines({ rows: 1, columns: 1, values: Uint8Array.of(3) }).get(3)).toHaveLength(16);
  });

  it("separates neighbours, and equals the edges found voxel by voxel", () => {
    const mask = { rows: 9, columns: 11, values: Uint8Array.from({ length: 99 }, (_, k) => (k * 7919) % 5) };
    const found = outlines(mask);
    expect([...found.keys()]).toEqual([1, 2, 3, 4]);
    const at = (r: number, c: number): number => (r < 0 || c < 0 || r >= 9 || c >= 11 ? 0 : mask.values[r * 11 + c]!);
    for (const [label, pieces] of found) {
      let [length, edges] = [0, 0];
      for (let k = 0; k < pieces.length; k += 4) length += pieces[k + 2]! - pieces[k]! + pieces[k + 3]! - pieces[k + 1]!;
      for (let r = 0; r <= 9; r++) {
        for (let c = 0; c <= 11; c++) {
          const here = at(r, c) === label;
          edges += Number(here !== (at(r - 1, c) === label)) + Number(here !== (at(r, c - 1) === label));
        }
      }
      expect(length).toBe(edges);
    }
  });
});
