import { CLIENT, Api } from "../api/client";
import { listen } from "../api/events";
import { Failure } from "../api/failure";
import type { ServerEvent } from "../api/types";
import type { SliceCanvas } from "../canvas/slice_canvas";
import { openJournal } from "../saving/journal";
import { Outbox } from "../saving/outbox";
import { text } from "../strings";
import { Commands } from "./commands";
import { Drawing } from "./drawing";
import { notify } from "./notices";
import * as view from "./signals";
import { measure } from "./timing";
import { placeOf, Workspace } from "./workspace";

const REFRESH_DELAY_MS = 120;

/** The page's parts, wired together. */
export class App {
  readonly workspace: Workspace;
  readonly drawing: Drawing;
  readonly commands: Commands;
  /** The canvas, while a scan is open. */
  canvas: SliceCanvas | null = null;
  private readonly outbox: Outbox;
  private refreshing: ReturnType<typeof setTimeout> | undefined;
  private stateTimer: ReturnType<typeof setTimeout> | undefined;

  private constructor(
    readonly api: Api,
    journal: Awaited<ReturnType<typeof openJournal>>,
  ) {
    this.workspace = new Workspace(api);
    this.outbox = new Outbox((stroke) => this.send(stroke), journal, {
      status: (status) => {
        view.saveStatus.value = status;
      },
      saved: (entry, version) => {
        if (this.workspace.store?.id === entry.case) this.workspace.store.saved(entry.slice, version);
        this.refreshStateSoon();
        this.refreshCaseSoon();
      },
      conflict: (conflict) => {
        view.conflict.value = conflict;
        void this.drawing.resolve(conflict);
      },
      refused: (entry, failure) => notify("bad", text.saving.refused(entry.slice, failure.message), failure.hint),
    });
    this.drawing = new Drawing(this.workspace, this.outbox);
    this.commands = new Commands(this.workspace);
  }

  /** Connects to the server and opens the first scan. */
  static async start(): Promise<App> {
    const api = new Api();
    const project = await api.state();
    view.project.value = project;
    view.label.value = project.labels[0]?.value ?? 1;
    view.tool.value = project.promptable.name === null ? "brush" : "box";
    const app = new App(api, await openJournal(`${project.folder} ${project.out}`));
    const left = await app.outbox.recover();
    if (left > 0) notify("info", text.saving.recovered(left));
    await app.openFirst();
    app.drawing.restore();
    app.listen();
    return app;
  }

  /** Whether leaving the page now would leave strokes unsaved. */
  get unsaved(): boolean {
    return this.outbox.pending > 0;
  }

  private async openFirst(): Promise<void> {
    const wanted = placeOf(location.hash);
    const list = view.cases.value.filter((entry) => entry.state !== "unreadable");
    const suggested = view.project.value?.suggestion?.case;
    const preferred = (id: string): number => (id === wanted?.id ? 0 : id === suggested ? 1 : 2);
    // A scan that cannot be read is reported, and the next one opened.
    for (const { id } of list.sort((a, b) => preferred(a.id) - preferred(b.id))) {
      await this.workspace.open(id, id === wanted?.id ? wanted.slice : null);
      if (view.detail.value !== null) return;
    }
  }

  private async send(stroke: Parameters<Api["save"]>[0]): Promise<number> {
    const started = performance.now();
    const version = await this.api.save(stroke);
    measure("save", started);
    return version;
  }

  private listen(): void {
    let lost = false;
    listen(
      {
        received: (event) => this.receive(event),
        connected: () => {
          view.connected.value = true;
          this.outbox.retry();
          void this.readAgain();
          if (lost) notify("good", text.back);
          lost = false;
        },
        lost: () => {
          lost = true;
          view.connected.value = false;
        },
      },
      `/api/events?client=${CLIENT}`,
    );
  }

  private receive(event: ServerEvent): void {
    if (event.type === "job") this.commands.receiveJob(event);
    else if (event.type === "case") {
      if (event.id === view.detail.value?.id) this.refreshCaseSoon();
      this.refreshStateSoon();
    } else if (event.type === "state") this.refreshStateSoon();
    else if (view.project.value !== null && event.version !== view.project.value.version) {
      notify("info", text.newServer, "", { label: text.reload, run: () => location.reload() });
    }
  }

  private async readAgain(): Promise<void> {
    await quietly(() => this.commands.refreshProject());
    await quietly(() => this.commands.refreshJobs());
    await this.refreshCase();
  }

  /** Whether a slice is being drawn on or has strokes on their way, so that what the server has is older. */
  private busy(id: string, slice: number): boolean {
    return this.outbox.holds(id, slice) || (this.drawing.drawing && this.workspace.screen?.slice === slice);
  }

  private refreshCaseSoon(): void {
    clearTimeout(this.refreshing);
    this.refreshing = setTimeout(() => void this.refreshCase(), REFRESH_DELAY_MS);
  }

  private refreshStateSoon(): void {
    clearTimeout(this.stateTimer);
    this.stateTimer = setTimeout(() => void quietly(() => this.commands.refreshProject()), 3 * REFRESH_DELAY_MS);
  }

  private async refreshCase(): Promise<void> {
    const id = view.detail.value?.id;
    if (id === undefined) return;
    // While strokes are on their way the server's list is behind; when they are saved, it is read.
    if (this.outbox.holds(id)) return;
    const changed = await quietly(() => this.workspace.refresh((slice) => this.busy(id, slice)));
    if (changed !== null) this.drawing.forget(changed);
  }
}

/** Background reading: when the server is away, the connection's state says so already. */
async function quietly<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure) return null;
    throw error;
  }
}
