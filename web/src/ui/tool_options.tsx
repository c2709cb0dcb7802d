import { BRUSH, limitToLabel } from "../state/actions";
import type { App } from "../state/app";
import { keyOf } from "../state/keys";
import { brushSize, protect } from "../state/preferences";
import { detail, limit, project, promptable, thinking, tool } from "../state/signals";
import { sentence, text } from "../strings";
import { Button, Check, NumberField, Panel, Slider } from "./controls";

/** The settings of the selected tool. */
export function ToolOptions({ app }: { app: App }) {
  const name = tool.value;
  const paints = name === "brush" || name === "eraser";
  return (
    <Panel heading={text.tools.names[name]} actions={<kbd>{keyOf(name)}</kbd>}>
      <p class="quiet">{text.tools.hints[name]}</p>
      {thinking.value && (
        <p class="thinking" role="status">
          {text.tools.thinking}
        </p>
      )}
      {paints && (
        <Slider
          label={text.tools.size}
          value={brushSize.value}
          least={BRUSH.least}
          most={BRUSH.most}
          step={1}
          shown={text.tools.millimetres(brushSize.value)}
          onInput={(value) => {
            brushSize.value = value;
          }}
        />
      )}
      {name === "brush" && <Limit app={app} />}
      {name !== "eraser" && name !== "crosshair" && (
        <Check
          label={text.tools.protect}
          checked={protect.value}
          onChange={(checked) => {
            protect.value = checked;
          }}
        />
      )}
      {!promptable.value && <MissingModel />}
    </Panel>
  );
}

function Limit({ app }: { app: App }) {
  const range = limit.value;
  const [low, high] = detail.value?.range ?? [0, 1];
  return (
    <div class="limit">
      <Check
        label={text.tools.limit}
        checked={range !== null}
        onChange={(checked) => {
          limit.value = checked ? { low, high } : null;
        }}
      />
      {range !== null && (
        <div class="fields">
          <NumberField label={text.tools.from} value={range.low} onChange={(value) => (limit.value = { ...range, low: value })} />
          <NumberField label={text.tools.to} value={range.high} onChange={(value) => (limit.value = { ...range, high: value })} />
        </div>
      )}
      <Button
        label={text.tools.likeLabel}
        title={text.shortcut(text.tools.likeLabel, keyOf("limit"))}
        tone="quiet"
        onClick={() => {
          limit.value = null;
          limitToLabel(app);
        }}
      />
    </div>
  );
}

function MissingModel() {
  return (
    <div class="missing">
      <strong>{text.tools.noPrompt}</strong>
      <p>{sentence(project.value?.promptable.message ?? "")}</p>
    </div>
  );
}
