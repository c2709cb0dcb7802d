import { describe, expect, it } from "vitest";
import { apply, difference, History, type Edit } from "../src/masks/history";

describe("history", () => {
  it("undoes and redoes strokes on several slices, step by step", () => {
    const history = new History();
    const slices = [new Uint8Array(50), new Uint8Array(50)];
    const states = [slices.map((s) => s.slice())];
    for (let k = 0; k < 20; k++) {
      const step: Edit[] = [];
      for (const z of k % 3 === 0 ? [0, 1] : [k % 2]) {
        const before = slices[z]!.slice();
        slices[z]!.fill((k % 4) + 1, k, k + 12);
        step.push(difference(z, before, slices[z]!)!);
      }
      history.push(step);
      states.push(slices.map((s) => s.slice()));
    }
    for (let k = 19; k >= 0; k--) {
      for (const edit of history.undo()!) apply(edit, "before", slices[edit.slice]!);
      expect(slices).toEqual(states[k]);
    }
    expect(history.undo()).toBeNull();
    for (let k = 1; k <= 20; k++) {
      for (const edit of history.redo()!) apply(edit, "after", slices[edit.slice]!);
      expect(slices).toEqual(states[k]);
    }
    expect(history.redo()).toBeNull();
  });

  it("a new stroke ends what could be redone", () => {
    const history = new History();
    history.push([edit(0, 1)]);
    history.push([edit(0, 2)]);
    history.undo();
    history.push([edit(0, 3)]);
    expect(history.canRedo).toBe(false);
    expect(history.undo()![0]!.after[0]).toBe(3);
  });

  it("forgets a slice that somebody else changed, with every step that touched it", () => {
    const history = new History();
    history.push([edit(0, 1)]);
    history.push([edit(0, 2), edit(1, 2)]);
    history.push([edit(1, 3)]);
    history.forget(0);
    expect(history.undo()![0]!.after[0]).toBe(3);
    expect(history.canUndo).toBe(false);
  });

  it("an equal slice is no step", () => {
    expect(difference(0, Uint8Array.of(1, 2), Uint8Array.of(1, 2))).toBeNull();
  });
});

function edit(slice: number, value: number): Edit {
  return difference(slice, Uint8Array.of(0), Uint8Array.of(value))!;
}
