import { effect } from "@preact/signals";
import { measure } from "../state/timing";
import type { Drawing } from "../state/drawing";
import { brushSize, opacity } from "../state/preferences";
import * as state from "../state/signals";
import type { Screen, Workspace } from "../state/workspace";
import type { Mask, Point, Rect } from "../masks/grid";
import { makeTools } from "../tools/table";
import type { Host, Tool, ToolName } from "../tools/tool";
import { ScreenHost } from "./screen_host";
import { MaskLayer, outlinesOf, PictureLayer } from "./layers";
import { fit, toScreen, toSlice, zoomAt, type Position, type Size, type Viewport } from "./viewport";

/**
 * The slice on screen: picture, mask and outlines on one canvas, the tool and the pointer on a second one above it, so that
 * moving the pointer does not draw the slice again.
 */
export class SliceCanvas {
  readonly tools: Record<ToolName, Tool>;
  viewport: Viewport | null = null;
  size: Size = { width: 1, height: 1 };
  /** Where the pointer is on the slice; null off the canvas. */
  pointer: Point | null = null;
  private readonly picture = new PictureLayer();
  private readonly masks = new MaskLayer();
  private reference: { mask: Mask; paths: Map<number, Path2D> } | null = null;
  private screen: Screen | null = null;
  private viewOf = "";
  /** Whether the whole slice is shown, as it stays when the window's size changes. */
  private fitted = true;
  private stale = { slice: false, overlay: false, frame: false };
  /** ms of drawing since the last frame. */
  private brushed = 0;
  private readonly closers: (() => void)[] = [];

  constructor(
    private readonly base: HTMLCanvasElement,
    private readonly top: HTMLCanvasElement,
    private readonly workspace: Workspace,
    private readonly drawing: Drawing,
  ) {
    this.tools = makeTools(workspace.api);
    workspace.onScreen((screen) => this.show(screen));
    const observer = new ResizeObserver(() => this.resize());
    observer.observe(base);
    this.closers.push(() => observer.disconnect());
    this.react(
      () => [state.window.value, opacity.value, state.masksShown.value],
      () => this.repaint(),
    );
    this.react(
      () => [state.label.value, state.crosshair.value, brushSize.value],
      () => this.repaintOverlay(),
    );
    this.react(
      () => [state.labels.value],
      () => this.maskChanged(),
    );
    this.react(
      () => [state.referencesShown.value],
      () => void this.loadReference(),
    );
    this.react(
      () => [state.tool.value],
      () => this.selectTool(),
    );
    this.resize();
    this.show(workspace.screen);
  }

  dispose(): void {
    this.closers.forEach((close) => close());
  }

  get tool(): Tool {
    return this.tools[state.tool.value];
  }

  /** The tools' view of what is on screen; null while nothing is or may not be drawn on. */
  host(): Host | null {
    const screen = this.screen;
    const store = this.workspace.store;
    if (screen === null || store === null || state.readOnly.value || state.activeLabel.value === null) return null;
    return new ScreenHost(this, screen, store.spacing, this.drawing);
  }

  /** Zooms or moves what is shown; it stays so until `fitView`. */
  setViewport(viewport: Viewport): void {
    this.viewport = viewport;
    this.fitted = false;
    this.repaint();
  }

  fitView(): void {
    const screen = this.screen;
    if (screen === null) return;
    this.setViewport(fit(screen.mask.rows, screen.mask.columns, this.workspace.store!.spacing, this.size));
    this.fitted = true;
  }

  /** Zooms where the pointer is, or at the centre. */
  zoom(factor: number, at: Position = { x: this.size.width / 2, y: this.size.height / 2 }): void {
    if (this.viewport !== null) this.setViewport(zoomAt(this.viewport, this.size, at, factor));
  }

  slicePoint(position: Position): Point | null {
    return this.viewport === null ? null : toSlice(this.viewport, this.size, position);
  }

  /** Lets a tool work on the slice; if it draws, the time counts as drawing. */
  brush(work: () => void): void {
    const started = performance.now();
    work();
    if (this.stale.slice) this.brushed += performance.now() - started;
  }

  maskChanged(area?: Rect): void {
    if (this.screen !== null) this.masks.update(this.screen.mask, state.labels.value, area);
    this.repaint();
  }

  repaint(): void {
    this.stale.slice = true;
    this.repaintOverlay();
  }

  repaintOverlay(): void {
    this.stale.overlay = true;
    if (this.stale.frame) return;
    this.stale.frame = true;
    requestAnimationFrame(() => this.paintStale());
  }

  private selectTool(): void {
    Object.values(this.tools).forEach((tool) => tool.leave?.());
    this.top.style.cursor = this.tool.cursor;
    this.repaintOverlay();
  }

  private react(read: () => unknown[], changed: () => void): void {
    this.closers.push(
      effect(() => {
        read();
        changed();
      }),
    );
  }

  private show(screen: Screen | null): void {
    const moved = screen?.slice !== this.screen?.slice || screen?.id !== this.screen?.id;
    this.screen = screen;
    if (screen !== null) {
      if (this.viewOf !== screen.id) {
        this.viewOf = screen.id;
        this.fitView();
      }
      this.masks.update(screen.mask, state.labels.peek());
    }
    this.reference = moved ? null : this.reference;
    if (moved) {
      Object.values(this.tools).forEach((tool) => tool.reset?.());
      void this.loadReference();
    }
    // At once rather than in the next frame: changing slices should feel immediate.
    this.stale.slice = this.stale.overlay = true;
    this.paintStale();
  }

  private resize(): void {
    this.size = { width: Math.max(1, this.base.clientWidth), height: Math.max(1, this.base.clientHeight) };
    for (const canvas of [this.base, this.top]) {
      canvas.width = Math.round(this.size.width * devicePixelRatio);
      canvas.height = Math.round(this.size.height * devicePixelRatio);
    }
    if (this.fitted) this.fitView();
    this.stale.slice = this.stale.overlay = true;
    this.paintStale();
  }

  private async loadReference(): Promise<void> {
    const [screen, store] = [this.screen, this.workspace.store];
    this.reference = null;
    if (screen !== null && store !== null && state.referencesShown.value) {
      const mask = await store.loadReference(screen.slice).catch(() => null);
      if (mask !== null && this.screen === screen) this.reference = { mask, paths: outlinesOf(mask) };
    }
    this.repaint();
  }

  private paintStale(): void {
    const started = performance.now();
    if (this.stale.slice) this.paintSlice();
    if (this.stale.overlay) this.paintOverlay();
    if (this.brushed > 0) measure("stroke", started - this.brushed);
    this.brushed = 0;
    this.stale = { slice: false, overlay: false, frame: false };
  }

  private paintSlice(): void {
    const context = cleared(this.base);
    const { screen, viewport } = this;
    if (screen === null || viewport === null) return;
    this.picture.update(screen.picture, state.window.peek());
    this.toVoxels(context, viewport);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "medium";
    context.drawImage(this.picture.canvas, 0, 0);
    if (!state.masksShown.peek()) return;
    context.imageSmoothingEnabled = false;
    context.globalAlpha = opacity.peek();
    context.drawImage(this.masks.canvas, 0, 0);
    context.globalAlpha = 1;
    this.strokePaths(context, this.masks.paths(), 1.5, []);
    if (this.reference !== null) this.strokePaths(context, this.reference.paths, 1.25, [5, 4]);
  }

  /** Strokes outlines with a width in CSS pixels, whatever the zoom. */
  private strokePaths(context: CanvasRenderingContext2D, paths: Map<number, Path2D>, width: number, dash: number[]): void {
    const scale = this.viewport!.zoom * Math.min(this.viewport!.spacing.column, this.viewport!.spacing.row);
    context.setLineDash(dash.map((length) => length / scale));
    context.lineCap = "square";
    for (const [value, path] of paths) {
      const color = state.labels.peek().find((entry) => entry.value === value)?.color ?? "#ffffff";
      context.strokeStyle = dash.length > 0 ? "#ffffff" : color;
      context.lineWidth = width / scale;
      context.stroke(path);
    }
    context.setLineDash([]);
  }

  private paintOverlay(): void {
    const context = cleared(this.top);
    const { screen, viewport, size } = this;
    if (screen === null || viewport === null) return;
    context.scale(devicePixelRatio, devicePixelRatio);
    const at = (point: Point): Position => toScreen(viewport, size, point);
    const cross = state.crosshair.peek();
    if (cross !== null && (state.planesShown.peek() || state.tool.peek() === "crosshair")) drawCrosshair(context, at(cross), size);
    const host = this.host();
    if (host === null) return;
    const color = state.activeLabel.peek()?.color ?? "#ffffff";
    this.tool.draw?.({ context, color, zoom: viewport.zoom, at }, this.pointer, host);
  }

  private toVoxels(context: CanvasRenderingContext2D, viewport: Viewport): void {
    const origin = toScreen(viewport, this.size, { column: 0, row: 0 });
    const ratio = devicePixelRatio;
    context.setTransform(
      ratio * viewport.zoom * viewport.spacing.column,
      0,
      0,
      ratio * viewport.zoom * viewport.spacing.row,
      ratio * origin.x,
      ratio * origin.y,
    );
  }
}

function cleared(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext("2d")!;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  return context;
}

function drawCrosshair(context: CanvasRenderingContext2D, at: Position, size: Size): void {
  const gap = 10;
  context.beginPath();
  for (const [x0, y0, x1, y1] of [
    [0, at.y, at.x - gap, at.y],
    [at.x + gap, at.y, size.width, at.y],
    [at.x, 0, at.x, at.y - gap],
    [at.x, at.y + gap, at.x, size.height],
  ] as const) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  context.lineWidth = 1;
  context.strokeStyle = "rgba(255, 214, 102, 0.8)";
  context.stroke();
}
