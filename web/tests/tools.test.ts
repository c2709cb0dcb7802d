import { describe, expect, it } from "vitest";
import type { Api } from "../src/api/client";
import type { Prompt, StrokeTool } from "../src/api/types";
import type { Mask, Point } from "../src/masks/grid";
import { notices } from "../src/state/notices";
import { Brush } from "../src/tools/brush";
import { Polygon } from "../src/tools/polygon";
import { boxOf, BoxTool, PointsTool, PromptSession } from "../src/tools/prompts";
import type { Host, Pointer } from "../src/tools/tool";

/** Lets promises that are settled run on. */
const turn = (): Promise<void> => new Promise((done) => setTimeout(done));

class FakeHost implements Host {
  readonly id = "scan";
  readonly slice = 3;
  /** Large voxels, so that corners of a polygon are not taken for clicks on its first one. */
  readonly spacing = { column: 10, row: 10 };
  readonly label = 1;
  readonly size = 2;
  readonly limited = false;
  readonly picture = { picture: { rows: 0, columns: 0, values: new Int16Array(0) }, scaling: { slope: 1, intercept: 0 } };
  readonly mask: Mask;
  readonly strokes: StrokeTool[] = [];
  changes = 0;

  constructor(...lines: string[]) {
    this.mask = { rows: lines.length, columns: lines[0]!.length, values: Uint8Array.from(lines.join(""), Number) };
  }

  /** Other labels are protected. */
  paint = () => ({ value: 1, allows: (k: number) => this.mask.values[k]! < 2 });
  erase = () => ({ value: 0, allows: (k: number) => this.mask.values[k] === 1 });
  begin = (): void => undefined;
  changed = (): void => undefined;
  overlay = (): void => undefined;

  commit(tool: StrokeTool): void {
    this.strokes.push(tool);
    this.changes += 1;
  }

  get lines(): string[] {
    const { rows, columns, values } = this.mask;
    return Array.from({ length: rows }, (_, r) => values.slice(r * columns, (r + 1) * columns).join(""));
  }
}

/** A model that answers with these masks, one after the other, when `answer` is called. */
class FakeModel {
  readonly asked: Prompt[] = [];
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly masks: string[]) {}

  readonly api = {
    prompt: (_: string, __: number, prompt: Prompt) =>
      new Promise<Uint8Array>((done) => {
        this.asked.push(prompt);
        const mask = Uint8Array.from(this.masks[this.asked.length - 1]!, Number);
        this.waiting.push(() => done(mask));
      }),
  } as unknown as Api;

  async answer(): Promise<void> {
    this.waiting.shift()!();
    await turn();
  }
}

function at(column: number, row: number, more: Partial<Pointer> = {}): Pointer {
  return { point: { column, row }, shift: false, alt: false, secondary: false, ...more };
}

function drag(tool: BoxTool | Brush, host: Host, from: Point, to: Point): void {
  tool.down(at(from.column, from.row), host);
  tool.move(at(to.column, to.row), host);
  tool.up(at(to.column, to.row), host);
}

describe("box", () => {
  it("replaces the label inside the box, keeps it outside, and does not touch other labels", async () => {
    const host = new FakeHost("11002", "11000", "00000", "00011");
    const model = new FakeModel(["01111" + "01111" + "00000" + "00000"]);
    // Dragged from right to left: the box is the same.
    drag(new BoxTool(new PromptSession(model.api)), host, { column: 4.9, row: 1.7 }, { column: 1.1, row: 0.2 });
    expect(model.asked[0]).toEqual({ box: [1, 0, 5, 2], points: [], previous: false });
    await model.answer();
    expect(host.lines).toEqual(["11112", "11111", "00000", "00011"]);
    expect(host.strokes).toEqual(["box"]);
  });

  it("is dropped if something was drawn before the model answered", async () => {
    const host = new FakeHost("000", "000", "000");
    const model = new FakeModel(["111111111"]);
    drag(new BoxTool(new PromptSession(model.api)), host, { column: 0, row: 0 }, { column: 3, row: 3 });
    host.mask.values[4] = 1;
    host.commit("brush");
    await model.answer();
    expect(host.lines).toEqual(["000", "010", "000"]);
    expect(notices.value.at(-1)!.message).toContain("was not used");
  });

  it("a click is not a box", () => {
    const model = new FakeModel([]);
    drag(new BoxTool(new PromptSession(model.api)), new FakeHost("000", "000", "000"), { column: 1, row: 1 }, { column: 1, row: 1 });
    expect(model.asked).toEqual([]);
  });
});

describe("points", () => {
  it("correct the mask that is there: it is replaced, and each answer begins from it", async () => {
    const host = new FakeHost("00000000", "00011000", "00011000", "00000000");
    const model = new FakeModel(["00000000" + "00001000".repeat(2) + "00000000", "00000000" + "01111000".repeat(2) + "00000000"]);
    const tool = new PointsTool(new PromptSession(model.api));
    tool.down(at(3.2, 1.5, { secondary: true }), host);
    expect(model.asked[0]).toEqual({ box: [0, 0, 8, 4], points: [[3, 1, 0]], previous: false });
    await model.answer();
    expect(host.lines[1]).toBe("00001000");
    tool.down(at(1.5, 2.5), host);
    expect(model.asked[1]).toMatchObject({
      points: [
        [3, 1, 0],
        [1, 2, 1],
      ],
      previous: true,
    });
    await model.answer();
    expect(host.lines[1]).toBe("01111000");
    expect(host.strokes).toEqual(["points", "points"]);
  });

  it("an answer that a later click has overtaken is not used", async () => {
    const host = new FakeHost("0000", "0000");
    const model = new FakeModel(["11110000", "00001111"]);
    const tool = new PointsTool(new PromptSession(model.api));
    tool.down(at(0.5, 0.5), host);
    tool.down(at(0.5, 1.5), host);
    await model.answer();
    expect(host.lines).toEqual(["0000", "0000"]);
    await model.answer();
    expect(host.lines).toEqual(["0000", "1111"]);
  });

  it("the box of a mask has a margin and stays on the slice", () => {
    const lines = ["0".repeat(12), "000000110000", ...Array.from({ length: 8 }, () => "0".repeat(12))];
    expect(boxOf(new FakeHost(...lines).mask, 1)).toEqual([3, 0, 11, 5]);
    expect(boxOf(new FakeHost("00").mask, 1)).toBeNull();
  });
});

describe("brush and polygon", () => {
  it("Shift erases with the brush, the selected label only", () => {
    const host = new FakeHost("1112111");
    const brush = new Brush(false);
    brush.down(at(0.5, 0.5, { shift: true }), host);
    brush.move(at(6.5, 0.5), host);
    brush.up(at(6.5, 0.5), host);
    expect(host.lines).toEqual(["0002000"]);
    expect(host.strokes).toEqual(["eraser"]);
  });

  it("a polygon is closed by Enter, loses its last corner by Backspace, and is dropped by Escape", () => {
    const host = new FakeHost("0000", "0000", "0000", "0000");
    const polygon = new Polygon();
    const click = (column: number, row: number): void => polygon.down(at(column, row), host);
    click(0, 0);
    click(2, 0);
    expect(polygon.key("Escape", host)).toBe(true);
    expect(polygon.key("Enter", host)).toBe(false);
    for (const [column, row] of [
      [0, 0],
      [3, 0],
      [3, 3],
      [9, 9],
    ] as const) {
      click(column, row);
    }
    polygon.key("Backspace", host);
    polygon.down(at(0, 3), host);
    polygon.key("Enter", host);
    expect(host.lines).toEqual(["1110", "1110", "1110", "0000"]);
  });
});
