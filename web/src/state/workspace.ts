import { batch } from "@preact/signals";
import { Api, type SlicePicture } from "../api/client";
import { Failure } from "../api/failure";
import type { CaseDetail } from "../api/types";
import type { Mask } from "../masks/grid";
import { text } from "../strings";
import { notify, reporting } from "./notices";
import * as view from "./signals";
import { SliceStore } from "./slice_store";
import { measure, type Timed } from "./timing";

/** What is on the canvas. */
export interface Screen {
  readonly id: string;
  readonly slice: number;
  readonly picture: SlicePicture;
  readonly mask: Mask;
}

/** Called when another slice is on screen, and when a job or another tab changed the mask of this one. */
export type ScreenListener = (screen: Screen | null) => void;

const FOCUS_DELAY_MS = 300;

/** The open scan: its slices, which of them is on screen, and the one that is opened next. */
export class Workspace {
  store: SliceStore | null = null;
  screen: Screen | null = null;
  private ahead: { readonly store: SliceStore; readonly detail: CaseDetail } | null = null;
  private readonly listeners: ScreenListener[] = [];
  private readonly leavers: (() => void)[] = [];
  private readonly closers: (() => void)[] = [];
  private focusTimer: ReturnType<typeof setTimeout> | undefined;
  private shownOnce = false;

  constructor(readonly api: Api) {}

  onScreen(listener: ScreenListener): void {
    this.listeners.push(listener);
  }

  /** While the slice that is left is still the one on screen. */
  onLeave(leaver: () => void): void {
    this.leavers.push(leaver);
  }

  /** Before another scan is opened. */
  onClose(closer: () => void): void {
    this.closers.push(closer);
  }

  /** Opens a scan at a slice, or where work is waiting. */
  async open(id: string, at: number | null = null): Promise<void> {
    if (view.detail.value?.id === id) {
      if (at !== null) await this.goTo(at);
      return;
    }
    const started = performance.now();
    view.opening.value = id;
    const opened = await reporting(() => this.load(id));
    if (view.opening.value !== id) return;
    view.opening.value = null;
    if (opened === null) return;
    this.leavers.forEach((leave) => leave());
    this.closers.forEach((close) => close());
    this.show(opened.store, opened.detail);
    await this.goTo(at ?? startingSlice(opened.detail), this.shownOnce ? "next-scan" : "first-slice", started);
    this.shownOnce = true;
    void this.loadAhead();
  }

  /** Puts a slice on screen; one that is asked for later wins over one that loads longer. */
  async goTo(slice: number, timed: Timed = "slice-change", started = performance.now()): Promise<void> {
    const store = this.store;
    if (store === null) return;
    view.slice.value = Math.min(store.count - 1, Math.max(0, slice));
    const wanted = view.slice.value;
    const stale = (): boolean => this.store !== store || view.slice.value !== wanted;
    try {
      const [picture, mask] = this.cached(store, wanted) ?? (await Promise.all([store.loadPicture(wanted), store.loadMask(wanted)]));
      if (stale()) return;
      this.leavers.forEach((leave) => leave());
      this.screen = { id: store.id, slice: wanted, picture, mask };
      this.announce();
      history.replaceState(null, "", placeHash(store.id, wanted));
      measure(timed, started);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (stale()) return;
      this.screen = null;
      this.announce();
      notify("bad", text.slice.noImage, error.message);
    }
    store.prefetch(wanted);
    this.focusSoon(store.id, wanted);
  }

  /** Reads the open scan's slices again; masks that others changed are fetched, except where `busy` has unsaved strokes. */
  async refresh(busy: (slice: number) => boolean): Promise<readonly number[]> {
    const store = this.store;
    if (store === null) return [];
    const detail = await this.api.case(store.id);
    if (this.store !== store) return [];
    view.detail.value = detail;
    const versions = new Map(detail.slices.map((entry) => [entry.slice, entry.version]));
    const changed = store.outdated(versions).filter((slice) => !busy(slice));
    await Promise.all(changed.map((slice) => (slice === this.screen?.slice ? store.reload(slice) : store.forget(slice))));
    if (this.screen !== null && changed.includes(this.screen.slice)) this.announce();
    return changed;
  }

  /** Tells the canvas that the mask on screen has changed. */
  announce(): void {
    this.listeners.forEach((listener) => listener(this.screen));
  }

  private async load(id: string): Promise<{ store: SliceStore; detail: CaseDetail }> {
    if (this.ahead?.store.id === id) {
      const { store } = this.ahead;
      // Its pictures stay as they are; masks may have changed since.
      const detail = await this.api.case(id);
      store.outdated(new Map(detail.slices.map((entry) => [entry.slice, entry.version]))).forEach((slice) => store.forget(slice));
      return { store, detail };
    }
    const detail = await this.api.case(id);
    return { store: new SliceStore(this.api, id, detail), detail };
  }

  private show(store: SliceStore, detail: CaseDetail): void {
    this.store = store;
    this.screen = null;
    batch(() => {
      view.detail.value = detail;
      view.crosshair.value = null;
      view.limit.value = null;
      const preset = detail.windows[0];
      view.window.value = preset ?? { low: detail.range[0], high: detail.range[1] };
    });
  }

  /** Fetches the first slice of the scan that comes next in the list, so that it opens at once. */
  private async loadAhead(): Promise<void> {
    const list = view.cases.value;
    const position = list.findIndex((entry) => entry.id === this.store?.id);
    const next = list.slice(position + 1).find((entry) => entry.state !== "unreadable");
    if (next === undefined || this.ahead?.store.id === next.id) return;
    try {
      const detail = await this.api.case(next.id);
      const store = new SliceStore(this.api, next.id, detail);
      const slice = startingSlice(detail);
      await Promise.all([store.loadPicture(slice), store.loadMask(slice)]);
      this.ahead = { store, detail };
    } catch (error) {
      // Told when the scan is opened.
      if (!(error instanceof Failure)) throw error;
    }
  }

  private cached(store: SliceStore, slice: number): [SlicePicture, Mask] | null {
    const [picture, mask] = [store.picture(slice), store.mask(slice)];
    return picture === null || mask === null ? null : [picture, mask];
  }

  private focusSoon(id: string, slice: number): void {
    if (!view.promptable.value) return;
    clearTimeout(this.focusTimer);
    this.focusTimer = setTimeout(() => void this.api.focus(id, slice).catch(() => undefined), FOCUS_DELAY_MS);
  }
}

/** The part of the page's address that says what is on screen, so that reloading the page comes back to it. */
export function placeHash(id: string, slice: number): string {
  return `#${slice}/${encodeURIComponent(id)}`;
}

/** Reads what `placeHash` wrote. */
export function placeOf(hash: string): { readonly id: string; readonly slice: number } | null {
  const found = /^#(\d+)\/(.+)$/.exec(hash);
  return found === null ? null : { slice: Number(found[1]), id: decodeURIComponent(found[2]!) };
}

/** The suggested slice, the least certain one, the first outlined one, or the middle. */
export function startingSlice(detail: CaseDetail): number {
  const suggestion = view.project.value?.suggestion ?? null;
  if (suggestion?.case === detail.id) return suggestion.slice;
  const doubtful = detail.slices.filter((entry) => entry.review !== "" && entry.source !== "outlined" && entry.source !== "reviewed");
  const first =
    doubtful.sort((a, b) => (a.confidence ?? 0) - (b.confidence ?? 0))[0] ?? detail.slices.find((entry) => entry.source !== null);
  return first?.slice ?? Math.floor(detail.slices.length / 2);
}
