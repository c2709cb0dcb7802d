import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Label } from "../api/types";
import type { App } from "../state/app";
import { label as selected, labels, readOnly } from "../state/signals";
import { text } from "../strings";
import { Button, IconButton, Panel } from "./controls";

/** Colours that can be distinguished on grey and by most colour-blind people, given to new labels in turn. */
const COLORS = ["#4fd1c5", "#f6ad55", "#b794f4", "#f687b3", "#68d391", "#63b3ed", "#f6e05e", "#fc8181", "#a0aec0"];

type Editing = { readonly kind: "new" } | { readonly kind: "label"; readonly value: number } | null;

export function LabelPanel({ app }: { app: App }) {
  const editing = useSignal<Editing>(null);
  const close = (): void => {
    editing.value = null;
  };
  const add = (
    <IconButton label={text.labels.add} icon="plus" disabled={readOnly.value} onClick={() => (editing.value = { kind: "new" })} />
  );
  return (
    <Panel heading={text.labels.heading} actions={add}>
      {labels.value.length === 0 && <p class="quiet">{text.labels.none}</p>}
      <ul class="labels">
        {labels.value.map((label, position) => (
          <li key={label.value}>
            {editing.value?.kind === "label" && editing.value.value === label.value ? (
              <Editor label={label} app={app} close={close} />
            ) : (
              <Row label={label} position={position} edit={() => (editing.value = { kind: "label", value: label.value })} />
            )}
          </li>
        ))}
      </ul>
      {editing.value?.kind === "new" && <Editor label={null} app={app} close={close} />}
    </Panel>
  );
}

function Row({ label, position, edit }: { label: Label; position: number; edit: () => void }) {
  return (
    <div class="label-row">
      <button type="button" class="label" aria-pressed={selected.value === label.value} onClick={() => (selected.value = label.value)}>
        <span class="swatch" style={{ backgroundColor: label.color }} />
        <span class="name">{label.name}</span>
        {position < 9 && <kbd>{position + 1}</kbd>}
      </button>
      {!readOnly.value && <IconButton label={text.labels.rename(label.name)} icon="edit" onClick={edit} />}
    </div>
  );
}

function Editor({ label, app, close }: { label: Label | null; app: App; close: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const name = useSignal(label?.name ?? "");
  const color = useSignal(label?.color ?? COLORS[labels.value.length % COLORS.length]!);
  const confirming = useSignal<{ voxels: number; slices: number } | null>(null);
  const save = async (): Promise<void> => {
    if (name.value.trim() === "") return;
    const entered = name.value.trim();
    const done =
      label === null
        ? await app.commands.addLabel(entered, color.value)
        : await app.commands.changeLabel(label.value, { name: entered, color: color.value });
    if (done) close();
  };
  const remove = async (confirmed: boolean): Promise<void> => {
    confirming.value = await app.commands.deleteLabel(label!.value, label!.name, confirmed);
    if (confirming.value === null) close();
  };
  const submitted = (event: SubmitEvent): void => {
    event.preventDefault();
    void save();
  };
  return (
    <form class="editor" onSubmit={submitted}>
      <div class="fields">
        <input
          type="color"
          aria-label={text.labels.color}
          value={color.value}
          onInput={(event) => (color.value = event.currentTarget.value)}
        />
        <input
          type="text"
          aria-label={text.labels.name}
          placeholder={text.labels.name}
          maxLength={60}
          value={name.value}
          ref={field}
          onInput={(event) => (name.value = event.currentTarget.value)}
        />
      </div>
      {confirming.value !== null && (
        <p role="alert">{text.labels.confirm(label!.name, confirming.value.voxels, confirming.value.slices)}</p>
      )}
      <div class="buttons">
        {label !== null && (
          <Button label={text.labels.confirmDelete} tone="danger" onClick={() => void remove(confirming.value !== null)} />
        )}
        <span class="spring" />
        <Button label={text.cancel} tone="quiet" onClick={close} />
        <button type="submit" class="button primary">
          {text.labels.save}
        </button>
      </div>
    </form>
  );
}
