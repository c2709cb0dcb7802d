import { commands, text, type Command } from "../strings";
import type { ToolName } from "../tools/tool";
import {
  acceptCaseStep,
  limitToLabel,
  masksToggle,
  nextWindow,
  openDialog,
  startJob,
  stepBrush,
  themeToggle,
  togglePlanes,
} from "./actions";
import type { App } from "./app";
import * as view from "./signals";

export type Group = keyof typeof text.help.groups;

/** A key and what it does. `keys` are values of KeyboardEvent.key, with Ctrl+ (also ⌘) and Shift+ before them. */
export interface Binding {
  readonly command: Command;
  readonly group: Group;
  readonly keys: readonly string[];
  /** As shown, where it differs from the keys. */
  readonly shown?: string;
  run(app: App, key: string): void;
}

const selects = (tool: ToolName, key: string): Binding => ({
  command: tool,
  group: "draw",
  keys: [key],
  run: () => {
    view.tool.value = tool;
  },
});

const moves = (command: Command, keys: readonly string[], to: (slice: number, count: number) => number): Binding => ({
  command,
  group: "move",
  keys,
  run: (app) => void app.workspace.goTo(to(view.slice.value, view.sliceCount.value)),
});

export const BINDINGS: readonly Binding[] = [
  selects("box", "x"),
  selects("points", "o"),
  selects("brush", "b"),
  selects("eraser", "e"),
  selects("polygon", "p"),
  selects("fill", "f"),
  selects("crosshair", "k"),
  { command: "smaller", group: "draw", keys: ["["], run: () => stepBrush(-1) },
  { command: "larger", group: "draw", keys: ["]"], run: () => stepBrush(1) },
  { command: "limit", group: "draw", keys: ["t"], run: (app) => limitToLabel(app) },
  {
    command: "label",
    group: "draw",
    keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"],
    shown: "1 … 9",
    run: (_, key) => {
      const label = view.labels.value[Number(key) - 1];
      if (label !== undefined) view.label.value = label.value;
    },
  },
  { command: "undo", group: "edit", keys: ["Ctrl+z"], run: (app) => app.drawing.undo() },
  { command: "redo", group: "edit", keys: ["Ctrl+y", "Ctrl+Shift+z"], run: (app) => app.drawing.redo() },
  { command: "copyBelow", group: "edit", keys: ["c"], run: (app) => void app.drawing.copyFrom(-1) },
  { command: "copyAbove", group: "edit", keys: ["Shift+c"], run: (app) => void app.drawing.copyFrom(1) },
  { command: "interpolate", group: "edit", keys: ["i"], run: (app) => void app.drawing.interpolate() },
  { command: "clear", group: "edit", keys: ["Delete"], run: (app) => app.drawing.clear() },
  moves("up", ["ArrowUp", "ArrowRight"], (slice) => slice + 1),
  moves("down", ["ArrowDown", "ArrowLeft"], (slice) => slice - 1),
  moves("upTen", ["PageUp"], (slice) => slice + 10),
  moves("downTen", ["PageDown"], (slice) => slice - 10),
  moves("first", ["Home"], () => 0),
  moves("last", ["End"], (_, count) => count - 1),
  { command: "nextCase", group: "move", keys: ["Shift+ArrowDown"], run: (app) => void app.commands.stepCase(1) },
  { command: "previousCase", group: "move", keys: ["Shift+ArrowUp"], run: (app) => void app.commands.stepCase(-1) },
  { command: "suggestion", group: "move", keys: ["g"], run: (app) => void app.commands.goToSuggestion() },
  { command: "zoomIn", group: "view", keys: ["+", "="], run: (app) => app.canvas?.zoom(1.25) },
  { command: "zoomOut", group: "view", keys: ["-"], run: (app) => app.canvas?.zoom(0.8) },
  { command: "fit", group: "view", keys: ["0"], run: (app) => app.canvas?.fitView() },
  { command: "window", group: "view", keys: ["w"], run: () => nextWindow() },
  { command: "masks", group: "view", keys: ["h"], run: () => masksToggle() },
  { command: "planes", group: "view", keys: ["v"], run: () => togglePlanes() },
  { command: "theme", group: "view", keys: ["Shift+d"], run: () => themeToggle() },
  { command: "help", group: "view", keys: ["?"], run: () => openDialog("help") },
  { command: "next", group: "review", keys: ["n"], run: (app) => void app.commands.nextToReview() },
  { command: "accept", group: "review", keys: ["a"], run: (app) => void app.commands.acceptSlice() },
  { command: "acceptCase", group: "review", keys: ["Shift+a"], run: () => acceptCaseStep() },
  { command: "propagate", group: "review", keys: ["Shift+p"], run: (app) => startJob(app, "propagate") },
  { command: "train", group: "review", keys: ["Shift+t"], run: (app) => startJob(app, "train") },
];

const BY_KEY = new Map(BINDINGS.flatMap((binding) => binding.keys.map((key) => [key, binding] as const)));

/** The binding of a key press, or null. Plain and shifted letters are distinguished, whatever Caps Lock says. */
export function bindingOf(
  event: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "shiftKey" | "altKey">,
): { binding: Binding; key: string } | null {
  if (event.altKey) return null;
  const letter = /^[a-zA-Z]$/.test(event.key);
  const key = letter ? event.key.toLowerCase() : event.key;
  const shifted = event.shiftKey && (letter || event.key.length > 1);
  const name = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shifted ? "Shift+" : ""}${key}`;
  const binding = BY_KEY.get(name);
  return binding === undefined ? null : { binding, key };
}

/** The key of a command as people read it. */
export function keyOf(command: Command): string {
  const binding = BINDINGS.find((entry) => entry.command === command);
  return binding === undefined ? "" : (binding.shown ?? readable(binding.keys[0]!));
}

export function readable(key: string): string {
  const arrows: Record<string, string> = {
    ArrowUp: "↑",
    ArrowDown: "↓",
    ArrowLeft: "←",
    ArrowRight: "→",
    PageUp: "Page up",
    PageDown: "Page down",
  };
  return key
    .split(/\+(?=.)/)
    .map((part) => arrows[part] ?? (/^[a-z]$/.test(part) ? part.toUpperCase() : part))
    .join(" + ");
}

/** Tooltip of a button: what it does and its key. */
export function hint(command: Command): string {
  return text.shortcut(commands[command], keyOf(command));
}
