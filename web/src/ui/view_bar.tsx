import { opacity } from "../state/preferences";
import { detail, sliceCount, window as shown } from "../state/signals";
import { text } from "../strings";
import { Slider } from "./controls";
import { Icon } from "./icons";

/** Above the canvas: which scan it is and how it is shown. */
export function ViewBar() {
  const open = detail.value;
  return (
    <div class="view-bar">
      <div class="title">
        <h2 title={open?.id}>{open?.id}</h2>
        {open !== null && <span class="quiet">{gridOf(open.shape, open.spacing)}</span>}
        {open !== null && open.message !== "" && (
          <span class="chip warn" title={open.message} role="note" aria-label={open.message}>
            <Icon name="warning" />
          </span>
        )}
        {open !== null && open.others > 0 && (
          <span class="chip warn" title={text.others(open.others)}>
            <Icon name="people" />
            {open.others}
          </span>
        )}
      </div>
      <WindowSelect />
      <Slider
        label={text.view.opacity}
        value={opacity.value}
        least={0}
        most={1}
        step={0.05}
        shown={text.percent(opacity.value)}
        onInput={(value) => {
          opacity.value = value;
        }}
      />
    </div>
  );
}

function gridOf(shape: readonly number[], spacing: readonly number[]): string {
  return `${shape[0]} × ${shape[1]} × ${sliceCount.value} · ${spacing.map((mm) => Number(mm.toFixed(2))).join(" × ")} mm`;
}

function WindowSelect() {
  const presets = detail.value?.windows ?? [];
  const at = presets.findIndex(({ low, high }) => low === shown.value.low && high === shown.value.high);
  return (
    <label class="select">
      <span>{text.view.window}</span>
      <select
        value={at < 0 ? "" : String(at)}
        onChange={(event) => {
          const preset = presets[Number(event.currentTarget.value)];
          if (event.currentTarget.value !== "" && preset !== undefined) shown.value = { low: preset.low, high: preset.high };
          event.currentTarget.blur();
        }}
      >
        {presets.map((preset, k) => (
          <option key={preset.name} value={String(k)}>
            {preset.name}
          </option>
        ))}
        {at < 0 && <option value="">{text.view.windowCustom}</option>}
      </select>
    </label>
  );
}
