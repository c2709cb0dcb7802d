/**
 * A small stand-in for the server, in memory: `npm run dev -- --mode fake` shows the page without Python. Its scans are ellipses.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Plugin } from "vite";
import type { CaseDetail, CaseSummary, Job, JobKind, ProjectState, Source } from "../src/api/types";

const [COLUMNS, ROWS, SLICES] = [192, 160, 48] as const;
const SPACING = [1.9, 1.9, 5] as const;
const LABELS = [
  { value: 1, name: "liver", color: "#4fd1c5" },
  { value: 2, name: "spleen", color: "#f6ad55" },
];

interface FakeSlice {
  mask: Uint8Array;
  source: Source | null;
  confidence: number | null;
  version: number;
}

class FakeCase {
  version = 1;
  readonly slices: FakeSlice[] = Array.from({ length: SLICES }, () => ({
    mask: new Uint8Array(ROWS * COLUMNS),
    source: null,
    confidence: null,
    version: 1,
  }));

  constructor(
    readonly id: string,
    readonly seed: number,
  ) {}

  /** Whether a voxel lies in the fake liver. */
  liver(column: number, row: number, slice: number): boolean {
    const size = Math.sqrt(Math.max(0, 1 - ((slice - 24) / 17) ** 2));
    const [x, y] = [(column - 68 - this.seed) / (38 * size + 1e-6), (row - 74) / (34 * size + 1e-6)];
    return x * x + y * y + 0.35 * x * y < 1;
  }

  intensity(column: number, row: number, slice: number): number {
    const [x, y] = [(column - 96) / 82, (row - 82) / 66];
    const body = x * x + y * y;
    if (body > 1) return -1000;
    const noise = 25 * (Math.abs(Math.sin(column * 12.9898 + row * 78.233 + slice * 37.7) * 43758.5453) % 1) - 12;
    if (body > 0.88) return -100 + noise;
    if ((column - 96) ** 2 + (row - 126) ** 2 < 130) return 420 + noise;
    if (((column - 140) / 18) ** 2 + ((row - 92) / 24) ** 2 < 1 && slice > 12 && slice < 36) return 125 + noise;
    return (this.liver(column, row, slice) ? 105 : 30) + noise;
  }

  set(slice: number, mask: Uint8Array, source: Source | null, confidence: number | null): void {
    this.version += 1;
    this.slices[slice] = { mask, source, confidence, version: this.slices[slice]!.version + 1 };
  }

  detail(): CaseDetail {
    return {
      id: this.id,
      shape: [COLUMNS, ROWS, SLICES],
      spacing: SPACING,
      orientation: "LPS",
      message: "",
      windows: [
        { name: "Abdomen", low: -160, high: 240 },
        { name: "Liver", low: -20, high: 180 },
        { name: "Lung", low: -1350, high: 150 },
        { name: "Bone", low: -450, high: 1050 },
      ],
      range: [-1000, 450],
      version: this.version,
      saved: true,
      others: 0,
      slices: this.slices.map((entry, slice) => ({
        slice,
        source: entry.source,
        confidence: entry.confidence,
        review: entry.confidence !== null && entry.confidence < 0.7 ? "confidence below 0.7" : "",
        version: entry.version,
        labels: [...new Set(entry.mask)].filter((value) => value > 0),
      })),
    };
  }

  summary(rank: number): CaseSummary {
    const count = (source: Source): number => this.slices.filter((entry) => entry.source === source).length;
    const known = this.slices.flatMap((entry) => (entry.confidence === null ? [] : [entry.confidence]));
    const state = count("propagated") > 0 ? "propagated" : count("outlined") > 0 ? "started" : "new";
    return {
      id: this.id,
      state,
      message: "",
      shape: [COLUMNS, ROWS, SLICES],
      spacing: SPACING,
      outlined: count("outlined"),
      reviewed: count("reviewed"),
      confidence: known.length === 0 ? null : Math.min(...known),
      rank,
      saved: true,
    };
  }
}

export function fakeApi(): Plugin {
  const cases = Array.from({ length: 9 }, (_, k) => new FakeCase(`phantom_${String(k + 1).padStart(2, "0")}`, k));
  const jobs: Job[] = [];
  const streams = new Set<ServerResponse>();
  const tell = (event: object): void => streams.forEach((stream) => stream.write(`data: ${JSON.stringify(event)}\n\n`));
  const changed = (entry: FakeCase): void => tell({ type: "case", id: entry.id, version: entry.version, slices: [] });

  const state = (): ProjectState => ({
    version: "fake",
    folder: "phantoms",
    out: "phantoms-annotations",
    cases: cases.map((entry, rank) => entry.summary(rank)),
    labels: LABELS,
    promptable: { name: "litemedsam", message: "" },
    suggestion: { case: "phantom_01", slice: 24, reason: "Large cross-section, unlike any outlined slice." },
    model: null,
    meter: { minutes: 3.4, slices: 4, cases: 2, expected_dice: null, message: "" },
    references: false,
    read_only: false,
    disk: "",
    notice: "For research use only: not a medical device.",
  });

  function propagate(entry: FakeCase, job: Job): void {
    let slice = 0;
    const timer = setInterval(() => {
      for (let k = 0; k < 2 && slice < SLICES; k++, slice++) {
        if (entry.slices[slice]!.source === "outlined") continue;
        const mask = Uint8Array.from({ length: ROWS * COLUMNS }, (_, v) =>
          entry.liver(v % COLUMNS, Math.floor(v / COLUMNS), slice) ? 1 : 0,
        );
        if (mask.includes(1)) entry.set(slice, mask, "propagated", Math.max(0.3, 1 - Math.abs(slice - 24) / 30));
      }
      const done = slice >= SLICES;
      update(job.id, { state: done ? "done" : "running", progress: slice / SLICES, message: `Slice ${slice} of ${SLICES}` });
      changed(entry);
      if (done) clearInterval(timer);
    }, 120);
  }

  function update(id: string, change: Partial<Job>): Job {
    const at = jobs.findIndex((job) => job.id === id);
    jobs[at] = { ...jobs[at]!, ...change };
    tell({ type: "job", ...jobs[at] });
    return jobs[at];
  }

  function begin(kind: JobKind, id: string | null): Job {
    const job: Job = {
      id: String(jobs.length + 1),
      kind,
      case: id,
      state: "running",
      progress: 0,
      message: "",
      hint: "",
      log: [`${kind} begins`],
      started: null,
      ended: null,
    };
    jobs.unshift(job);
    const entry = cases.find((each) => each.id === id);
    if (kind === "propagate" && entry !== undefined) propagate(entry, job);
    return job;
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url!, "http://here").pathname.slice("/api".length);
    const parts: Buffer[] = [];
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
    const body = Buffer.concat(parts);
    const json = (value: unknown): void => void response.setHeader("Content-Type", "application/json").end(JSON.stringify(value));
    const bytes = (value: Uint8Array | Int16Array): void =>
      void response.end(Buffer.from(value.buffer, value.byteOffset, value.byteLength));
    if (path === "/events") {
      response.setHeader("Content-Type", "text/event-stream");
      response.write(`data: ${JSON.stringify({ type: "hello", version: "fake" })}\n\n`);
      streams.add(response);
      request.on("close", () => streams.delete(response));
      return;
    }
    if (path === "/state") return json(state());
    if (path === "/jobs" && request.method === "GET") return json(jobs);
    if (path === "/jobs") {
      const { kind, case: id } = JSON.parse(body.toString()) as { kind: JobKind; case: string | null };
      return json(begin(kind, id));
    }
    const found = /^\/cases\/([^/]+)(?:\/slices\/(\d+))?(?:\/(\w+))?$/.exec(path);
    const entry = cases.find((each) => each.id === found?.[1]);
    if (found === null || entry === undefined) return void response.writeHead(404).end("{}");
    const [slice, what] = [Number(found[2]), found[3]];
    if (what === "image") {
      response.setHeader("X-Rows", ROWS).setHeader("X-Columns", COLUMNS);
      return bytes(Int16Array.from({ length: ROWS * COLUMNS }, (_, v) => entry.intensity(v % COLUMNS, Math.floor(v / COLUMNS), slice)));
    }
    if (found[2] === undefined && (what === "volume" || what === "mask")) return void response.writeHead(404).end("{}");
    if (what === "mask" && request.method === "GET")
      return void bytes((response.setHeader("ETag", `"${entry.slices[slice]!.version}"`), entry.slices[slice]!.mask));
    if (what === "mask") {
      entry.set(slice, new Uint8Array(body), "outlined", null);
      changed(entry);
      return json({ version: entry.slices[slice]!.version });
    }
    if (what === "prompt")
      return bytes(
        Uint8Array.from({ length: ROWS * COLUMNS }, (_, v) => (entry.liver(v % COLUMNS, Math.floor(v / COLUMNS), slice) ? 1 : 0)),
      );
    if (what === "accept") entry.set(slice, entry.slices[slice]!.mask, "reviewed", null);
    if (what === "focus") return void response.writeHead(202).end("{}");
    return json(entry.detail());
  }

  return {
    name: "fake-api",
    configureServer(server) {
      server.middlewares.use("/api", (request, response) => {
        request.url = `/api${request.url}`;
        void answer(request, response);
      });
    },
  };
}
