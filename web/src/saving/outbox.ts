import { Failure } from "../api/failure";
import { CLIENT, type Stroke } from "../api/client";
import type { StrokeTool } from "../api/types";
import { decodeRuns, encodeRuns, type Runs } from "../masks/runs";

/** A stroke that is not yet on the server's disk. */
export interface Unsaved {
  /** Unlike that of any other tab. */
  readonly key: string;
  /** ms since 1970, when it was drawn. */
  readonly at: number;
  readonly case: string;
  readonly slice: number;
  readonly runs: Runs;
  /** The version that was drawn on; later strokes of the same slice follow the version that its saving returns. */
  readonly version: number;
  readonly tool: StrokeTool;
  readonly seconds: number;
}

/** Keeps unsaved strokes over a closed tab. */
export interface Journal {
  put(entry: Unsaved): Promise<void>;
  remove(key: string): Promise<void>;
  /** What tabs that are closed by now have left. */
  left(): Promise<Unsaved[]>;
}

export type SaveStatus =
  | { readonly kind: "saved" }
  | { readonly kind: "saving"; readonly count: number }
  /** Kept here and tried again; `message` says why. */
  | { readonly kind: "waiting"; readonly count: number; readonly message: string; readonly full: boolean };

export interface Conflict {
  readonly case: string;
  readonly slice: number;
  readonly version: number;
  readonly by: string;
  /** What was drawn here on top of an older version. */
  readonly values: Uint8Array;
}

export interface OutboxEvents {
  status(status: SaveStatus): void;
  saved(entry: Unsaved, version: number): void;
  conflict(conflict: Conflict): void;
  /** The server will never accept this stroke. */
  refused(entry: Unsaved, failure: Failure): void;
}

const WAITS_MS = [500, 1000, 2000, 4000, 8000];

/**
 * Sends strokes one after the other, in the order in which they were drawn, so that the log on the server is complete.
 *
 * A stroke leaves the queue when the server has it. While the server is away or its disk is full, strokes wait and are tried again.
 */
export class Outbox {
  private readonly queue: Unsaved[] = [];
  private readonly versions = new Map<string, number>();
  private nextKey = 1;
  private running = false;
  private wake: (() => void) | null = null;

  constructor(
    private readonly send: (stroke: Stroke) => Promise<number>,
    private readonly journal: Journal,
    private readonly events: OutboxEvents,
    private readonly sleep: (ms: number) => Promise<void> = (ms) => new Promise((done) => setTimeout(done, ms)),
    private readonly client = CLIENT,
  ) {}

  get pending(): number {
    return this.queue.length;
  }

  /** Whether strokes of a slice (or of any) are still on their way. */
  holds(id: string, slice?: number): boolean {
    return this.queue.some((entry) => entry.case === id && (slice === undefined || entry.slice === slice));
  }

  /** What was drawn last and is not saved, by slice. */
  latest(id: string): Map<number, Uint8Array> {
    return new Map(this.queue.filter((entry) => entry.case === id).map((entry) => [entry.slice, decodeRuns(entry.runs)]));
  }

  add(stroke: Stroke): void {
    const { values, ...rest } = stroke;
    const entry: Unsaved = { ...rest, key: `${this.client} ${this.nextKey++}`, at: Date.now(), runs: encodeRuns(values) };
    this.queue.push(entry);
    void this.journal.put(entry);
    void this.run();
  }

  /** Takes up what a closed tab left behind. */
  async recover(): Promise<number> {
    const left = (await this.journal.left()).sort((a, b) => a.at - b.at || numberOf(a.key) - numberOf(b.key));
    this.queue.unshift(...left);
    void this.run();
    return left.length;
  }

  /** Tries at once, for example because the server answers again. */
  retry(): void {
    this.wake?.();
  }

  private async run(): Promise<void> {
    if (this.running) return;
    this.running = true;
    for (let failures = 0; this.queue.length > 0;) {
      const entry = this.queue[0]!;
      if (failures === 0) this.events.status({ kind: "saving", count: this.queue.length });
      try {
        const version = await this.send(this.strokeOf(entry));
        this.versions.set(placeOf(entry), version);
        this.drop((other) => other.key === entry.key);
        failures = 0;
        this.events.saved(entry, version);
      } catch (error) {
        const failure = error instanceof Failure ? error : new Failure(0, String(error));
        if (failure.passing) await this.wait(failure, failures++);
        else this.giveUp(entry, failure);
      }
    }
    this.running = false;
    this.events.status({ kind: "saved" });
  }

  private strokeOf(entry: Unsaved): Stroke {
    const { key: _, at: __, runs, ...rest } = entry;
    const known = this.versions.get(placeOf(entry)) ?? 0;
    return { ...rest, values: decodeRuns(runs), version: Math.max(known, entry.version) };
  }

  private async wait(failure: Failure, failures: number): Promise<void> {
    this.events.status({ kind: "waiting", count: this.queue.length, message: failure.message, full: failure.status === 507 });
    const woken = new Promise<void>((done) => {
      this.wake = done;
    });
    await Promise.race([woken, this.sleep(WAITS_MS[Math.min(failures, WAITS_MS.length - 1)]!)]);
    this.wake = null;
  }

  private giveUp(entry: Unsaved, failure: Failure): void {
    if (failure.status === 409) {
      const last = this.queue.findLast((other) => placeOf(other) === placeOf(entry))!;
      const { version, by } = failure.body;
      this.drop((other) => placeOf(other) === placeOf(entry));
      this.events.conflict({
        case: entry.case,
        slice: entry.slice,
        version: Number(version ?? 0),
        by: typeof by === "string" ? by : "",
        values: decodeRuns(last.runs),
      });
    } else {
      this.drop((other) => other.key === entry.key);
      this.events.refused(entry, failure);
    }
  }

  private drop(test: (entry: Unsaved) => boolean): void {
    for (const entry of this.queue.filter(test)) {
      this.queue.splice(this.queue.indexOf(entry), 1);
      void this.journal.remove(entry.key);
    }
  }
}

function numberOf(key: string): number {
  return Number(key.split(" ")[1]);
}

function placeOf(entry: { case: string; slice: number }): string {
  return `${entry.slice} ${entry.case}`;
}
