import { useEffect, useRef } from "preact/hooks";
import { effect } from "@preact/signals";
import type { SliceSummary } from "../api/types";
import type { App } from "../state/app";
import { theme } from "../state/preferences";
import { detail, slice, sliceCount } from "../state/signals";
import { text } from "../strings";

const SOURCES = ["outlined", "reviewed", "propagated", "predicted"] as const;

/** One bar a slice: its height is the confidence, its colour the source, a mark above it asks for review. A click goes there. */
export function Strip({ app }: { app: App }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const element = canvas.current!;
    const draw = (): void => paint(element, detail.peek()?.slices ?? [], slice.peek());
    const stop = effect(() => {
      // Read here so that the strip follows them.
      [detail.value, slice.value, theme.value].forEach(() => undefined);
      requestAnimationFrame(draw);
    });
    const observer = new ResizeObserver(draw);
    observer.observe(element);
    return () => {
      stop();
      observer.disconnect();
    };
  }, []);
  const current = detail.value?.slices[slice.value];
  const go = (event: PointerEvent): void => {
    if (event.buttons !== 1) return;
    const frame = canvas.current!.getBoundingClientRect();
    void app.workspace.goTo(Math.floor(((event.clientX - frame.left) / frame.width) * sliceCount.value));
  };
  return (
    <div class="strip">
      <span class="end">{text.slice.inferior}</span>
      <canvas
        ref={canvas}
        role="slider"
        tabIndex={0}
        aria-label={text.slice.strip}
        aria-valuemin={0}
        aria-valuemax={Math.max(0, sliceCount.value - 1)}
        aria-valuenow={slice.value}
        aria-valuetext={current === undefined ? "" : text.slice.stripValue(slice.value, stateOf(current), current.confidence)}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          go(event);
        }}
        onPointerMove={go}
      />
      <span class="end">{text.slice.superior}</span>
      <Legend />
    </div>
  );
}

function Legend() {
  return (
    <ul class="legend">
      {SOURCES.map((source) => (
        <li key={source}>
          <span class={`swatch ${source}`} />
          {text.sources[source]}
        </li>
      ))}
      <li>
        <span class="swatch review" />
        {text.slice.legend.review}
      </li>
    </ul>
  );
}

export function stateOf(entry: SliceSummary): string {
  return entry.source === null ? text.unlabelled : text.sources[entry.source];
}

const MARK = 4;

function paint(canvas: HTMLCanvasElement, slices: readonly SliceSummary[], current: number): void {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
  const context = canvas.getContext("2d")!;
  context.scale(devicePixelRatio, devicePixelRatio);
  const style = getComputedStyle(canvas);
  const color = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const step = width / Math.max(1, slices.length);
  const gap = step > 5 ? 1 : 0;
  const room = height - MARK - 3;
  slices.forEach((entry, k) => {
    const x = k * step;
    // A mask without voxels, as beyond the organ's ends, is not a full bar: nothing was found there.
    const bare = entry.source === null || (entry.labels.length === 0 && entry.confidence === null && entry.source !== "outlined");
    const tall = bare ? 4 : Math.max(5, room * (entry.confidence ?? 1));
    context.fillStyle = color(entry.source ?? "unlabelled");
    context.fillRect(x, height - tall, Math.max(1, step - gap), tall);
    if (entry.review !== "" && entry.source !== "outlined" && entry.source !== "reviewed") {
      context.fillStyle = color("review");
      context.fillRect(x, 0, Math.max(1.5, step - gap), MARK);
    }
  });
  context.strokeStyle = color("current");
  context.lineWidth = 2;
  const at = current * step;
  context.strokeRect(at - 0.5, 1, Math.max(4, step - gap + 1), height - 2);
}
