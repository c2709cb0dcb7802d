import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const CSS = readFileSync(new URL("../src/styles/tokens.css", import.meta.url), "utf8");

/** Custom properties of a theme. */
function tokens(theme: string): Map<string, string> {
  const block = new RegExp(`\\[data-theme="${theme}"\\] \\{([^}]*)\\}`).exec(CSS)![1]!;
  return new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((found) => [found[1]!, found[2]!]));
}

/** Contrast ratio of two colours (WCAG 2.2, definition of contrast ratio). */
function contrast(a: string, b: string): number {
  const [x, y] = [luminance(a), luminance(b)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}

function luminance(color: string): number {
  const [r, g, b] = [1, 3, 5].map((k) => {
    const share = Number.parseInt(color.slice(k, k + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

const TEXT = [
  ["text", "bg"],
  ["text", "surface"],
  ["text", "raised"],
  ["text", "hover"],
  ["text", "accent-soft"],
  ["text", "bad-soft"],
  ["text", "warn-soft"],
  ["quiet", "surface"],
  ["quiet", "raised"],
  ["quiet", "hover"],
  ["quiet", "accent-soft"],
  ["accent", "surface"],
  ["accent", "accent-soft"],
  ["accent-text", "accent"],
  ["good", "surface"],
  ["bad", "surface"],
  ["review", "surface"],
] as const;

/** Marks that carry meaning without text. */
const MARKS = ["outlined", "reviewed", "propagated", "predicted", "review", "current", "line-strong", "accent"];

describe.each(["dark", "light"])("%s theme", (theme) => {
  const colors = tokens(theme);

  it.each(TEXT)("%s is readable on %s (WCAG AA, 4.5)", (text, background) => {
    expect(contrast(colors.get(text)!, colors.get(background)!)).toBeGreaterThanOrEqual(4.5);
  });

  it.each(MARKS)("%s is seen on the panels (WCAG AA, 3)", (mark) => {
    expect(contrast(colors.get(mark)!, colors.get("surface")!)).toBeGreaterThanOrEqual(3);
  });
});

it("contrast is as defined", () => {
  expect(contrast("#000000", "#ffffff")).toBeCloseTo(21, 6);
  expect(contrast("#777777", "#ffffff")).toBeCloseTo(4.48, 2);
});
