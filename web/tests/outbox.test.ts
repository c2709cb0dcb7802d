import { describe, expect, it } from "vitest";
import { Failure } from "../src/api/failure";
import type { Stroke } from "../src/api/client";
import { Outbox, type Conflict, type Journal, type SaveStatus, type Unsaved } from "../src/saving/outbox";

/** A server in memory with versions, as the contract says; `failing` answers before it does anything. */
class Server {
  readonly saved: Stroke[] = [];
  readonly versions = new Map<string, number>();
  failing: (() => Failure | null)[] = [];

  readonly save = async (stroke: Stroke): Promise<number> => {
    await Promise.resolve();
    const failure = this.failing.shift()?.() ?? null;
    if (failure !== null) throw failure;
    const place = `${stroke.case} ${stroke.slice}`;
    const version = this.versions.get(place) ?? 1;
    if (stroke.version !== version) throw new Failure(409, "changed", "", { version, by: "Ann" });
    this.versions.set(place, version + 1);
    this.saved.push(stroke);
    return version + 1;
  };
}

class Memory implements Journal {
  readonly entries = new Map<string, Unsaved>();
  put = async (entry: Unsaved): Promise<void> => void this.entries.set(entry.key, entry);
  remove = async (key: string): Promise<void> => void this.entries.delete(key);
  left = async (): Promise<Unsaved[]> => [...this.entries.values()];
}

function made(server: Server, journal = new Memory(), client = "tab") {
  const seen = { status: [] as SaveStatus[], conflicts: [] as Conflict[], refused: [] as Failure[], waits: [] as number[] };
  const outbox = new Outbox(
    server.save,
    journal,
    {
      status: (status) => seen.status.push(status),
      saved: () => undefined,
      conflict: (conflict) => seen.conflicts.push(conflict),
      refused: (_, failure) => seen.refused.push(failure),
    },
    async (ms) => void seen.waits.push(ms),
    client,
  );
  return { outbox, journal, seen };
}

function stroke(slice: number, fill: number, version = 1, id = "a"): Stroke {
  return { case: id, slice, values: new Uint8Array(12).fill(fill), version, tool: "brush", seconds: 1 };
}

async function settled(outbox: Outbox): Promise<void> {
  for (let k = 0; k < 20000 && outbox.pending > 0; k++) await Promise.resolve();
  expect(outbox.pending).toBe(0);
}

describe("outbox", () => {
  it("saves a thousand strokes in order, none dropped, each on the version before it", async () => {
    const server = new Server();
    const { outbox, journal, seen } = made(server);
    // All are drawn on version 1, before any was saved.
    for (let k = 0; k < 1000; k++) outbox.add(stroke(k % 7, k % 256));
    await settled(outbox);
    expect(server.saved.map((each) => each.values[0])).toEqual(Array.from({ length: 1000 }, (_, k) => k % 256));
    expect(server.versions.get("a 3")).toBe(1 + server.saved.filter((each) => each.slice === 3).length);
    expect(seen.conflicts).toEqual([]);
    expect(seen.status.at(-1)).toEqual({ kind: "saved" });
    expect(journal.entries.size).toBe(0);
  });

  it("keeps strokes while the server is away or the disk is full, says so, and waits longer each time", async () => {
    const server = new Server();
    const away = (): Failure => new Failure(0, "away");
    server.failing = [away, away, () => new Failure(507, "disk full")];
    const { outbox, seen } = made(server);
    outbox.add(stroke(0, 5));
    outbox.add(stroke(1, 6));
    await settled(outbox);
    expect(server.saved.map((each) => each.slice)).toEqual([0, 1]);
    const waiting = seen.status.filter((status) => status.kind === "waiting");
    expect(waiting.map((status) => [status.count, status.full])).toEqual([
      [2, false],
      [2, false],
      [2, true],
    ]);
    expect(seen.waits).toEqual([500, 1000, 2000]);
  });

  it("tells a conflict with what was drawn last, and sends nothing more of that slice", async () => {
    const server = new Server();
    server.versions.set("a 4", 9);
    const { outbox, seen } = made(server);
    outbox.add(stroke(4, 1));
    outbox.add(stroke(5, 2));
    outbox.add(stroke(4, 3));
    await settled(outbox);
    expect(server.saved.map((each) => each.slice)).toEqual([5]);
    expect(seen.conflicts).toHaveLength(1);
    expect(seen.conflicts[0]).toMatchObject({ slice: 4, by: "Ann", version: 9 });
    expect(seen.conflicts[0]!.values[0]).toBe(3);
  });

  it("a refused stroke does not hold up the others", async () => {
    const server = new Server();
    server.failing = [() => new Failure(413, "too large")];
    const { outbox, seen } = made(server);
    outbox.add(stroke(0, 1));
    outbox.add(stroke(1, 2));
    await settled(outbox);
    expect(seen.refused.map((failure) => failure.status)).toEqual([413]);
    expect(server.saved.map((each) => each.slice)).toEqual([1]);
  });

  it("a closed tab's strokes are saved by the next one, before new ones", async () => {
    const journal = new Memory();
    const first = new Outbox(() => new Promise(() => undefined), journal, { status() {}, saved() {}, conflict() {}, refused() {} });
    first.add(stroke(2, 7));
    first.add(stroke(2, 8));
    await Promise.resolve();
    const server = new Server();
    const { outbox } = made(server, journal, "another");
    expect(await outbox.recover()).toBe(2);
    outbox.add(stroke(3, 9));
    await settled(outbox);
    expect(server.saved.map((each) => each.values[0])).toEqual([7, 8, 9]);
    expect(journal.entries.size).toBe(0);
  });

  it("knows which slices are unsaved, and their latest drawing", () => {
    const { outbox } = made(new Server());
    outbox.add(stroke(1, 1));
    outbox.add(stroke(1, 2));
    expect(outbox.holds("a", 1)).toBe(true);
    expect(outbox.holds("a", 2)).toBe(false);
    expect(outbox.holds("b")).toBe(false);
    expect(outbox.latest("a").get(1)![0]).toBe(2);
  });
});
