import * as state from "../state/signals";
import type { Workspace } from "../state/workspace";
import type { Pointer } from "../tools/tool";
import type { SliceCanvas } from "./slice_canvas";
import { pan, type Position } from "./viewport";
import { dragged } from "./window";

type Drag = "tool" | "pan" | "window";

const CLICK_PX = 4;
const WHEEL_STEP = 40;

/** Mouse, pen and touch on the canvas: the left button draws, the right one sets the window, the middle one moves the picture. */
export class Gestures {
  private drag: Drag | null = null;
  private last: Position = { x: 0, y: 0 };
  private start: Position = { x: 0, y: 0 };
  private wheel = 0;
  /** While the space bar is held, the left button moves the picture. */
  spaceHeld = false;

  constructor(
    private readonly element: HTMLElement,
    private readonly canvas: SliceCanvas,
    private readonly workspace: Workspace,
  ) {
    element.addEventListener("pointerdown", (event) => this.down(event));
    element.addEventListener("pointermove", (event) => this.move(event));
    element.addEventListener("pointerup", (event) => this.up(event));
    element.addEventListener("pointercancel", (event) => this.up(event));
    element.addEventListener("pointerleave", () => this.leave());
    element.addEventListener("dblclick", () => this.doubleClick());
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => this.turn(event), { passive: false });
  }

  private down(event: PointerEvent): void {
    this.element.focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    this.start = this.last = this.position(event);
    this.drag = event.button === 1 || this.spaceHeld ? "pan" : event.button === 2 ? "window" : "tool";
    if (this.drag === "tool") this.withTool(event, (pointer, host) => this.canvas.tool.down(pointer, host));
    event.preventDefault();
  }

  private move(event: PointerEvent): void {
    // A quick stroke passes several positions between two frames.
    const events = this.drag === "tool" ? event.getCoalescedEvents() : [];
    for (const each of events.length > 0 ? events : [event]) this.moveTo(each);
  }

  private moveTo(event: PointerEvent): void {
    const position = this.position(event);
    const [dx, dy] = [position.x - this.last.x, position.y - this.last.y];
    this.last = position;
    this.canvas.pointer = this.canvas.slicePoint(position);
    if (this.drag === "pan" && this.canvas.viewport !== null) this.canvas.setViewport(pan(this.canvas.viewport, dx, dy));
    else if (this.drag === "window") state.window.value = dragged(state.window.value, dx, dy);
    else if (this.drag === "tool") this.canvas.brush(() => this.withTool(event, (pointer, host) => this.canvas.tool.move?.(pointer, host)));
    else this.withTool(event, (pointer, host) => this.canvas.tool.hover?.(pointer, host));
    state.pointed.value = this.canvas.pointer;
    this.canvas.repaintOverlay();
  }

  private up(event: PointerEvent): void {
    if (this.drag === "tool") this.withTool(event, (pointer, host) => this.canvas.tool.up?.(pointer, host));
    // The right button sets the window by dragging; a click of it belongs to the tool (a point outside the organ).
    const position = this.position(event);
    const still = Math.hypot(position.x - this.start.x, position.y - this.start.y) < CLICK_PX;
    if (this.drag === "window" && still && state.tool.value === "points") {
      this.withTool(event, (pointer, host) => this.canvas.tool.down({ ...pointer, secondary: true }, host));
    }
    this.drag = null;
  }

  private leave(): void {
    if (this.drag !== null) return;
    this.canvas.pointer = null;
    state.pointed.value = null;
    this.canvas.repaintOverlay();
  }

  private doubleClick(): void {
    const host = this.canvas.host();
    if (host !== null) this.canvas.tool.doubleClick?.(host);
  }

  private turn(event: WheelEvent): void {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) return this.canvas.zoom(Math.exp(-event.deltaY / 400), this.position(event));
    // Trackpads send many small steps.
    this.wheel += event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * WHEEL_STEP : event.deltaY;
    const steps = Math.trunc(this.wheel / WHEEL_STEP);
    if (steps === 0) return;
    this.wheel = 0;
    void this.workspace.goTo(state.slice.value - Math.sign(steps));
  }

  private withTool(event: PointerEvent, use: (pointer: Pointer, host: NonNullable<ReturnType<SliceCanvas["host"]>>) => void): void {
    const host = this.canvas.host();
    const point = this.canvas.slicePoint(this.position(event));
    if (host === null || point === null) return;
    use({ point, shift: event.shiftKey, alt: event.altKey, secondary: event.button === 2 }, host);
  }

  private position(event: MouseEvent): Position {
    const frame = this.element.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }
}
