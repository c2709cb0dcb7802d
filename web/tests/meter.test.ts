import { describe, expect, it } from "vitest";
import { diceOf } from "../src/ui/meter";

const effort = { minutes: 3, slices: 2, cases: 1 };

describe("meter", () => {
  it("promises a Dice with its lower bound", () => {
    const expected = { estimate: 0.912, low: 0.834, high: null, reason: "calibrated on 3 scans" };
    expect(diceOf({ ...effort, expected_dice: expected, message: "" })).toEqual({
      value: "Dice 0.91",
      label: "expected; mean lower bound 0.83",
      reason: "Calibrated on 3 scans.",
    });
  });

  it("says why it promises none", () => {
    const shown = diceOf({ ...effort, expected_dice: null, message: "no validation scan yet" });
    expect([shown.value, shown.label]).toEqual(["No Dice yet", "No validation scan yet"]);
    expect(diceOf({ ...effort, expected_dice: null, message: "" }).label).not.toBe("");
  });
});
