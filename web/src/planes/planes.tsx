import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { App } from "../state/app";
import { detail } from "../state/signals";
import { text } from "../strings";

/** The other planes and 3D, by NiiVue; its code is loaded when this is first opened. */
export function Planes({ app }: { app: App }) {
  const frame = useRef<HTMLCanvasElement>(null);
  const message = useSignal<string>(text.view.planesLoading);
  const id = detail.value?.id;
  useEffect(() => {
    if (id === undefined) return;
    let stop = (): void => undefined;
    let ended = false;
    void show(frame.current!, app, (shown) => (message.value = shown)).then((dispose) => {
      if (ended) dispose();
      else stop = dispose;
    });
    return () => {
      ended = true;
      stop();
    };
  }, [id]);
  return (
    <div class="planes" aria-label={text.view.planes}>
      <canvas key={id} ref={frame} />
      {message.value !== "" && <p role="status">{message.value}</p>}
    </div>
  );
}

async function show(canvas: HTMLCanvasElement, app: App, say: (message: string) => void): Promise<() => void> {
  if (document.createElement("canvas").getContext("webgl2") === null) {
    say(text.view.noWebGl);
    return () => undefined;
  }
  say(text.view.planesLoading);
  try {
    const { showVolume } = await import("./volume");
    const dispose = await showVolume(canvas, app);
    say("");
    return dispose;
  } catch (error) {
    say(`${text.view.planesFailed}: ${error instanceof Error ? error.message : String(error)}`);
    return () => undefined;
  }
}
