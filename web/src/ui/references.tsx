import { useSignal } from "@preact/signals";
import type { App } from "../state/app";
import { reporting } from "../state/notices";
import { detail, project, referencesShown } from "../state/signals";
import { text } from "../strings";
import { Button, Check, Panel } from "./controls";

/** Dice against the references, where the program was started with them; computed only when asked. */
export function References({ app }: { app: App }) {
  const found = useSignal<{ readonly id: string; readonly dice: Record<string, number | null> } | null>(null);
  const id = detail.value?.id;
  if (project.value?.references !== true || id === undefined) return null;
  const ask = async (): Promise<void> => {
    const answer = await reporting(() => app.api.dice(id));
    found.value = answer === null ? null : { id, dice: answer.dice };
  };
  const shown = found.value?.id === id ? Object.entries(found.value.dice) : [];
  return (
    <Panel heading={text.references.heading}>
      <Check
        label={text.view.references}
        checked={referencesShown.value}
        onChange={(checked) => {
          referencesShown.value = checked;
        }}
      />
      <Button label={text.references.case} onClick={() => void ask()} />
      {shown.length > 0 && (
        <dl class="facts" data-dice>
          {shown.map(([name, dice]) => [
            <dt key={name}>{name}</dt>,
            <dd key={`${name} dice`}>{dice === null ? text.references.missing : dice.toFixed(3)}</dd>,
          ])}
        </dl>
      )}
    </Panel>
  );
}
