import { describe, expect, it } from "vitest";
import { BINDINGS, bindingOf, keyOf } from "../src/state/keys";
import { commands, type Command } from "../src/strings";
import { TOOL_NAMES } from "../src/tools/tool";

const PLAIN = { ctrlKey: false, metaKey: false, shiftKey: false, altKey: false };

describe("keys", () => {
  it("each key does one thing, and everything that is named has a key", () => {
    const keys = BINDINGS.flatMap((binding) => binding.keys);
    expect(new Set(keys).size).toBe(keys.length);
    const bound = BINDINGS.map((binding) => binding.command);
    expect(new Set(bound)).toEqual(new Set(Object.keys(commands)));
    for (const name of TOOL_NAMES) expect(bound).toContain(name);
  });

  it("tells letters from shifted letters, also with Caps Lock", () => {
    expect(bindingOf({ ...PLAIN, key: "a" })?.binding.command).toBe("accept");
    expect(bindingOf({ ...PLAIN, key: "A" })?.binding.command).toBe("accept");
    expect(bindingOf({ ...PLAIN, key: "A", shiftKey: true })?.binding.command).toBe("acceptCase");
    expect(bindingOf({ ...PLAIN, key: "?", shiftKey: true })?.binding.command).toBe("help");
  });

  it("takes Ctrl and the command key, and leaves the browser's own keys alone", () => {
    expect(bindingOf({ ...PLAIN, key: "z", ctrlKey: true })?.binding.command).toBe("undo");
    expect(bindingOf({ ...PLAIN, key: "Z", metaKey: true, shiftKey: true })?.binding.command).toBe("redo");
    expect(bindingOf({ ...PLAIN, key: "p", ctrlKey: true })).toBeNull();
    expect(bindingOf({ ...PLAIN, key: "f", altKey: true })).toBeNull();
  });

  it("shows keys as people read them", () => {
    expect(["undo", "copyAbove", "up", "label", "zoomIn"].map((command) => keyOf(command as Command))).toEqual([
      "Ctrl + Z",
      "Shift + C",
      "↑",
      "1 … 9",
      "+",
    ]);
  });
});
