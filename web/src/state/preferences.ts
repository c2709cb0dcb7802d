import { effect, signal, type Signal } from "@preact/signals";

/** A signal whose value outlives the page, in the browser's local storage. */
function kept<T>(name: string, otherwise: T): Signal<T> {
  const key = `frugalseg ${name}`;
  const value = signal<T>(read(key, otherwise));
  effect(() => {
    try {
      localStorage.setItem(key, JSON.stringify(value.value));
    } catch {
      // Storage may be forbidden; the choice then lasts as long as the page.
    }
  });
  return value;
}

function read<T>(key: string, otherwise: T): T {
  try {
    const stored = localStorage.getItem(key);
    return stored === null ? otherwise : (JSON.parse(stored) as T);
  } catch {
    return otherwise;
  }
}

export type Theme = "dark" | "light";

const systemTheme: Theme = typeof matchMedia === "function" && matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";

export const theme = kept<Theme>("theme", systemTheme);
/** Diameter in mm. */
export const brushSize = kept("brush", 8);
/** Of the masks' fill, 0…1. */
export const opacity = kept("opacity", 0.35);
/** Whether painting leaves other labels as they are. */
export const protect = kept("protect", true);
