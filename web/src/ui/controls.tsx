import type { ComponentChildren } from "preact";
import { text } from "../strings";
import { Icon, type IconName } from "./icons";

interface ButtonProps {
  readonly label: string;
  readonly title?: string;
  readonly icon?: IconName;
  readonly disabled?: boolean;
  readonly pressed?: boolean;
  /** Has the focus when a dialog opens. */
  readonly first?: boolean;
  readonly tone?: "plain" | "primary" | "quiet" | "danger";
  readonly onClick: () => void;
}

/** A button with a visible label. */
export function Button({ label, title, icon, disabled = false, pressed, first = false, tone = "plain", onClick }: ButtonProps) {
  return (
    <button
      type="button"
      class={`button ${tone}`}
      autofocus={first}
      title={title}
      disabled={disabled}
      aria-pressed={pressed}
      onClick={onClick}
    >
      {icon !== undefined && <Icon name={icon} />}
      <span>{label}</span>
    </button>
  );
}

/** A button that shows an icon only; its label is its accessible name. */
export function IconButton({ label, title, icon, disabled = false, pressed, onClick }: ButtonProps & { readonly icon: IconName }) {
  return (
    <button
      type="button"
      class="icon-button"
      title={title ?? label}
      aria-label={label}
      disabled={disabled}
      aria-pressed={pressed}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}

interface SliderProps {
  readonly label: string;
  readonly value: number;
  readonly least: number;
  readonly most: number;
  readonly step: number;
  readonly shown: string;
  readonly onInput: (value: number) => void;
}

export function Slider({ label, value, least, most, step, shown, onInput }: SliderProps) {
  return (
    <label class="slider">
      <span>{label}</span>
      <input
        type="range"
        min={least}
        max={most}
        step={step}
        value={value}
        aria-valuetext={shown}
        onInput={(event) => onInput(event.currentTarget.valueAsNumber)}
      />
      <output>{shown}</output>
    </label>
  );
}

export function Check({
  label,
  checked,
  disabled = false,
  onChange,
}: {
  label: string;
  checked: boolean;
  disabled?: boolean;
  onChange: (checked: boolean) => void;
}) {
  return (
    <label class="check">
      <input type="checkbox" checked={checked} disabled={disabled} onChange={(event) => onChange(event.currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}

export function NumberField({ label, value, onChange }: { label: string; value: number; onChange: (value: number) => void }) {
  const changed = (input: HTMLInputElement): void => {
    if (Number.isFinite(input.valueAsNumber)) onChange(input.valueAsNumber);
  };
  return (
    <label class="number">
      <span>{label}</span>
      <input type="number" value={text.amount(value)} step="any" onChange={(event) => changed(event.currentTarget)} />
    </label>
  );
}

interface SelectProps {
  readonly label: string;
  readonly value: string;
  /** Values and what is shown for them. */
  readonly options: readonly (readonly [string, string])[];
  readonly onChange: (value: string) => void;
}

export function Select({ label, value, options, onChange }: SelectProps) {
  return (
    <label class="select">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([key, shown]) => (
          <option key={key} value={key}>
            {shown}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A share, 0…1, as a bar. Its text is shown beside it. */
export function Bar({ share, kind, label }: { share: number; kind: string; label?: string }) {
  return (
    <div
      class={`bar ${kind}`}
      role={label === undefined ? undefined : "progressbar"}
      aria-label={label}
      aria-valuenow={Math.round(share * 100)}
      aria-valuemin={0}
      aria-valuemax={100}
    >
      <div style={{ width: `${Math.round(share * 100)}%` }} />
    </div>
  );
}

export function Panel({ heading, actions, children }: { heading: string; actions?: ComponentChildren; children: ComponentChildren }) {
  return (
    <section class="panel" aria-label={heading}>
      <header>
        <h2>{heading}</h2>
        {actions}
      </header>
      {children}
    </section>
  );
}
