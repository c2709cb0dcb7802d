import { signal } from "@preact/signals";
import { Failure } from "../api/failure";

export type Tone = "info" | "good" | "bad";

export interface Notice {
  readonly key: number;
  readonly tone: Tone;
  readonly message: string;
  readonly hint: string;
  /** An offer, for example to go to the next scan. */
  readonly action: { readonly label: string; run(): void } | null;
}

const SHOWN_MS: Record<Tone, number> = { info: 6000, good: 4000, bad: 12000 };

export const notices = signal<readonly Notice[]>([]);
let nextKey = 1;

export function notify(tone: Tone, message: string, hint = "", action: Notice["action"] = null): void {
  const key = nextKey++;
  const others = notices.value.filter((notice) => notice.message !== message);
  notices.value = [...others, { key, tone, message, hint, action }].slice(-4);
  setTimeout(() => dismiss(key), SHOWN_MS[tone]);
}

export function dismiss(key: number): void {
  notices.value = notices.value.filter((notice) => notice.key !== key);
}

/** Runs a command; a failure becomes a notice. */
export async function reporting<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure) notify("bad", error.message, error.hint);
    else throw error;
    return null;
  }
}
