import { opacity } from "../state/preferences";
import { detail, sliceCount, window as shown } from "../state/signals";
import { text } from "../strings";
import { Select, Slider } from "./controls";
import { Icon } from "./icons";

const CUSTOM = "custom";

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
  const options = presets.map(({ name }, k) => [String(k), name] as const);
  const choose = (key: string): void => {
    const preset = key === CUSTOM ? undefined : presets[Number(key)];
    if (preset !== undefined) shown.value = { low: preset.low, high: preset.high };
  };
  return (
    <Select
      label={text.view.window}
      value={at < 0 ? CUSTOM : String(at)}
      options={at < 0 ? [...options, [CUSTOM, text.view.windowCustom]] : options}
      onChange={choose}
    />
  );
}
