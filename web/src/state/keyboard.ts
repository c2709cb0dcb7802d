import type { Gestures } from "../canvas/gestures";
import type { App } from "./app";
import { bindingOf } from "./keys";
import * as view from "./signals";

/** Listens to the keyboard of the whole page; returns how to stop. Text fields and open dialogs keep their keys. */
export function connectKeys(app: App, gestures: Gestures): () => void {
  const down = (event: KeyboardEvent): void => {
    if (view.dialog.value !== null || view.conflict.value !== null || owns(event.target, event.key)) return;
    if (event.key === " " && !onButton(event.target)) {
      gestures.spaceHeld = true;
      return event.preventDefault();
    }
    if (usedByTool(app, event)) return event.preventDefault();
    const found = bindingOf(event);
    if (found === null) return;
    event.preventDefault();
    found.binding.run(app, found.key);
  };
  const up = (event: KeyboardEvent): void => {
    if (event.key === " ") gestures.spaceHeld = false;
  };
  document.addEventListener("keydown", down);
  document.addEventListener("keyup", up);
  return () => {
    document.removeEventListener("keydown", down);
    document.removeEventListener("keyup", up);
  };
}

function usedByTool(app: App, event: KeyboardEvent): boolean {
  const host = app.canvas?.host() ?? null;
  if (host === null || event.ctrlKey || event.metaKey || onButton(event.target)) return false;
  return app.canvas!.tool.key?.(event.key, host) ?? false;
}

/** Whether a focused field uses the key itself. */
function owns(target: EventTarget | null, key: string): boolean {
  const moves = /^(Arrow|Page|Home|End)/.test(key);
  // Letters are commands also after a choice in a list, rather than a search in it.
  if (target instanceof HTMLSelectElement) return moves || key === "Enter" || key === " ";
  if (!(target instanceof HTMLInputElement) || target.type === "checkbox") return false;
  return target.type !== "range" || moves;
}

/** Space and Enter press a focused button. */
function onButton(target: EventTarget | null): boolean {
  return target instanceof HTMLButtonElement || target instanceof HTMLInputElement;
}
