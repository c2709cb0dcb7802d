import { useEffect, useRef } from "preact/hooks";
import { Gestures } from "../canvas/gestures";
import { SliceCanvas } from "../canvas/slice_canvas";
import { indexOf, contains } from "../masks/grid";
import type { App } from "../state/app";
import { connectKeys } from "../state/keyboard";
import { currentSlice, detail, opening, pointed, slice, sliceCount, window as shownWindow } from "../state/signals";
import { text } from "../strings";
import { stateOf } from "./strip";

/** The canvas with what lies over its corners. */
export function SliceView({ app }: { app: App }) {
  const stage = useRef<HTMLDivElement>(null);
  const base = useRef<HTMLCanvasElement>(null);
  const top = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const canvas = new SliceCanvas(base.current!, top.current!, app.workspace, app.drawing);
    const gestures = new Gestures(stage.current!, canvas, app.workspace);
    app.canvas = canvas;
    const disconnect = connectKeys(app, gestures);
    return () => {
      disconnect();
      canvas.dispose();
      app.canvas = null;
    };
  }, []);
  const current = currentSlice.value;
  const state = current === null ? "" : stateOf(current);
  const name = detail.value === null ? text.loading : text.slice.canvas(detail.value.id, slice.value, sliceCount.value, state);
  return (
    <div class="stage" ref={stage} role="application" tabIndex={0} aria-label={`${name}. ${text.slice.instructions}`}>
      <canvas ref={base} class="base" />
      <canvas ref={top} class="over" />
      <span class="side right" aria-hidden="true">
        R
      </span>
      <span class="side left" aria-hidden="true">
        L
      </span>
      <span class="side anterior" aria-hidden="true">
        A
      </span>
      <span class="side posterior" aria-hidden="true">
        P
      </span>
      <div class="corner top-left">
        <strong>{text.slice.of(slice.value, sliceCount.value)}</strong>
        {current !== null && (
          <span class={`state ${current.source ?? "unlabelled"}`}>
            {state}
            {current.confidence !== null && ` · ${text.percent(current.confidence)}`}
          </span>
        )}
        {current !== null && current.review !== "" && <span class="state review">{current.review}</span>}
      </div>
      <div class="corner bottom-left">
        <Intensity app={app} />
      </div>
      <div class="corner bottom-right">
        {text.amount(shownWindow.value.low)} … {text.amount(shownWindow.value.high)}
      </div>
      {opening.value !== null && <div class="loading">{text.loading}</div>}
      {opening.value === null && detail.value === null && <div class="loading">{text.slice.nothing}</div>}
      <div class="live" aria-live="polite">
        {name}
      </div>
    </div>
  );
}

/** Position and intensity under the pointer. */
function Intensity({ app }: { app: App }) {
  const point = pointed.value;
  const screen = app.workspace.screen;
  if (point === null || screen === null || !contains(screen.mask, point)) return null;
  const { picture, scaling } = screen.picture;
  const value = picture.values[indexOf(picture, point)]! * scaling.slope + scaling.intercept;
  return (
    <span>
      {Math.floor(point.column)}, {Math.floor(point.row)} · {text.amount(value)}
    </span>
  );
}
