import type { Mask, Picture } from "../masks/grid";
import type { Scaling } from "../canvas/window";
import { Failure, failureOf } from "./failure";
import type {
  CaseDetail,
  ExportFormat,
  Job,
  JobKind,
  Label,
  ProjectState,
  Prompt,
  StrokeTool,
  TrainingOptions,
  TrainingPlan,
} from "./types";
import { text } from "../strings";

export interface SlicePicture {
  readonly picture: Picture;
  readonly scaling: Scaling;
}

export interface VersionedMask {
  readonly mask: Mask;
  readonly version: number;
}

/** One stroke to save: the whole slice after it. */
export interface Stroke {
  readonly case: string;
  readonly slice: number;
  readonly values: Uint8Array;
  /** The version of the slice that was drawn on. */
  readonly version: number;
  readonly tool: StrokeTool;
  readonly seconds: number;
}

/** Tells the server's log this tab from another one. */
export const CLIENT = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const JSON_TYPE = { "Content-Type": "application/json" };
const BYTES_TYPE = { "Content-Type": "application/octet-stream" };

/** The server's HTTP API; every method throws a Failure. */
export class Api {
  constructor(private readonly base = "") {}

  state(): Promise<ProjectState> {
    return this.json("GET", "/api/state");
  }

  case(id: string): Promise<CaseDetail> {
    return this.json("GET", casePath(id));
  }

  async picture(id: string, slice: number, signal?: AbortSignal): Promise<SlicePicture> {
    const response = await this.send("GET", `${slicePath(id, slice)}/image`, signal === undefined ? {} : { signal });
    const [rows, columns] = gridOf(response);
    const scaling = { slope: numberOf(response, "X-Slope", 1), intercept: numberOf(response, "X-Intercept", 0) };
    return { picture: { rows, columns, values: new Int16Array(await response.arrayBuffer()) }, scaling };
  }

  /** A slice's label map, rows × columns of the scan. */
  async mask(id: string, slice: number, rows: number, columns: number): Promise<VersionedMask> {
    // The browser's cache would answer with a mask from before the last stroke.
    const response = await this.send("GET", `${slicePath(id, slice)}/mask`, { cache: "no-store" });
    const values = new Uint8Array(await response.arrayBuffer());
    return { mask: { rows, columns, values }, version: versionOf(response) };
  }

  async reference(id: string, slice: number, rows: number, columns: number): Promise<Mask> {
    const response = await this.send("GET", `/api/references/${encodeURIComponent(id)}/slices/${slice}/mask`);
    return { rows, columns, values: new Uint8Array(await response.arrayBuffer()) };
  }

  /** Saves a stroke; returns the slice's new version. A cleared slice is unlabelled again, not an example of an empty one. */
  async save(stroke: Stroke): Promise<number> {
    const path = `${slicePath(stroke.case, stroke.slice)}/mask`;
    const match = { "If-Match": String(stroke.version) };
    const about = { ...BYTES_TYPE, "X-Tool": stroke.tool, "X-Seconds": stroke.seconds.toFixed(2) };
    const response =
      stroke.tool === "clear"
        ? await this.send("DELETE", path, { headers: match })
        : await this.send("PUT", path, { headers: { ...match, ...about }, body: stroke.values as BodyInit });
    return ((await response.json()) as { version: number }).version;
  }

  /** The mask of a prompt: 0 and 1, rows × columns. */
  async prompt(id: string, slice: number, prompt: Prompt): Promise<Uint8Array> {
    const response = await this.send("POST", `${slicePath(id, slice)}/prompt`, { headers: JSON_TYPE, body: JSON.stringify(prompt) });
    return new Uint8Array(await response.arrayBuffer());
  }

  acceptSlice(id: string, slice: number): Promise<CaseDetail> {
    return this.json("POST", `${slicePath(id, slice)}/accept`);
  }

  acceptCase(id: string): Promise<CaseDetail> {
    return this.json("POST", `${casePath(id)}/accept`);
  }

  /** Asks for embeddings ahead, this slice first. */
  async focus(id: string, slice: number): Promise<void> {
    await this.send("POST", `${casePath(id)}/focus`, { headers: JSON_TYPE, body: JSON.stringify({ slice }) });
  }

  jobs(): Promise<Job[]> {
    return this.json("GET", "/api/jobs");
  }

  start(kind: JobKind, id: string | null, options: TrainingOptions = {}): Promise<Job> {
    return this.json("POST", "/api/jobs", { kind, case: id, options });
  }

  trainingPlan(): Promise<TrainingPlan> {
    return this.json("GET", "/api/training");
  }

  async resume(job: string): Promise<void> {
    await this.send("POST", `/api/jobs/${encodeURIComponent(job)}/resume`);
  }

  async cancel(job: string): Promise<void> {
    await this.send("POST", `/api/jobs/${encodeURIComponent(job)}/cancel`);
  }

  addLabel(name: string, color: string): Promise<Label> {
    return this.json("POST", "/api/labels", { name, color });
  }

  changeLabel(value: number, change: { name?: string; color?: string }): Promise<Label> {
    return this.json("PATCH", `/api/labels/${value}`, change);
  }

  /** Without `confirmed`, fails with 409 and the voxels that would be lost, if there are any. */
  async deleteLabel(value: number, confirmed: boolean): Promise<void> {
    await this.send("DELETE", `/api/labels/${value}${confirmed ? "?confirm=true" : ""}`);
  }

  async undoLabels(): Promise<void> {
    await this.send("POST", "/api/labels/undo");
  }

  /** Dice of each label in a scan, against its reference. */
  dice(id: string): Promise<{ dice: Record<string, number | null> }> {
    return this.json("GET", `${casePath(id)}/dice`);
  }

  export(format: ExportFormat): Promise<{ folder: string; files: number }> {
    return this.json("POST", "/api/export", { format });
  }

  volumeUrl(id: string): string {
    return `${this.base}${casePath(id)}/volume`;
  }

  maskUrl(id: string): string {
    return `${this.base}${casePath(id)}/mask`;
  }

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: JSON_TYPE };
    return (await (await this.send(method, path, sent)).json()) as T;
  }

  private async send(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    const headers = { "X-Frugalseg": "1", "X-Client": CLIENT, ...(init.headers as Record<string, string> | undefined) };
    let response: Response;
    try {
      response = await fetch(this.base + path, { ...init, method, headers });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new Failure(0, text.serverGone);
    }
    if (!response.ok) throw await failureOf(response);
    return response;
  }
}

function casePath(id: string): string {
  return `/api/cases/${encodeURIComponent(id)}`;
}

function slicePath(id: string, slice: number): string {
  return `${casePath(id)}/slices/${slice}`;
}

function gridOf(response: Response): [number, number] {
  return [numberOf(response, "X-Rows", 0), numberOf(response, "X-Columns", 0)];
}

function numberOf(response: Response, header: string, otherwise: number): number {
  const value = response.headers.get(header);
  return value === null ? otherwise : Number(value);
}

function versionOf(response: Response): number {
  return Number((response.headers.get("ETag") ?? "0").replace(/[^0-9]/g, ""));
}
