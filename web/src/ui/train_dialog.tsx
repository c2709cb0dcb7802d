import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { TrainingPlan } from "../api/types";
import type { App } from "../state/app";
import { reporting } from "../state/notices";
import { project, window as shown } from "../state/signals";
import { sentence, text } from "../strings";
import { Button, Check, NumberField, Select } from "./controls";
import { Dialog } from "./dialog";

/** What a training would do now, shown before it starts. */
export function TrainDialog({ app, onClose }: { app: App; onClose: () => void }) {
  const plan = useSignal<TrainingPlan | null>(null);
  useEffect(() => {
    void reporting(() => app.api.trainingPlan()).then((found) => {
      plan.value = found;
    });
  }, []);
  return (
    <Dialog title={text.training.title} onClose={onClose}>
      {plan.value === null ? <p>{text.loading}</p> : <Plan plan={plan.value} app={app} onClose={onClose} />}
    </Dialog>
  );
}

type Modality = "ct" | "mr";
const UNET = "unet";

function Plan({ plan, app, onClose }: { plan: TrainingPlan; app: App; onClose: () => void }) {
  const size = useSignal(plan.size);
  const chosenSteps = useSignal<number | null>(null);
  const backbone = useSignal(plan.backbone);
  const fromScratch = useSignal(false);
  const full = useSignal(false);
  useEffect(() => document.querySelector<HTMLElement>("dialog [autofocus]")?.focus(), []);
  const modality = useSignal<Modality | "">("");
  const windowed = useSignal(false);
  const { low, high } = shown.value;
  const ct = (modality.value || plan.modality.toLowerCase()) === "ct";
  const asBefore = !full.value && size.value === plan.size && backbone.value === plan.backbone && modality.value === "" && !windowed.value;
  const warm = plan.warm_steps !== null && asBefore && !fromScratch.value;
  const steps = chosenSteps.value ?? (warm ? (plan.warm_steps ?? plan.steps) : plan.steps);
  const start = (): void => {
    onClose();
    void app.commands.start("train", {
      ...(full.value ? { recipe: "best" as const } : { size: size.value, steps, backbone: backbone.value, from_scratch: !warm }),
      ...(modality.value === "" ? {} : { modality: modality.value }),
      ...(windowed.value && ct ? { window: [low, high] as const } : {}),
    });
  };
  return (
    <>
      {plan.ready && <p>{text.training.uses(plan.slices, plan.cases, plan.validation, plan.targets)}</p>}
      <Select
        label={text.training.length}
        value={full.value ? "best" : "quick"}
        options={Object.entries(text.training.lengths)}
        onChange={(value) => (full.value = value === "best")}
      />
      {!full.value && (
        <div class="fields">
          <NumberField label={text.training.size} value={size.value} onChange={(value) => (size.value = value)} />
          <NumberField label={text.training.steps} value={steps} onChange={(value) => (chosenSteps.value = value)} />
        </div>
      )}
      {plan.warm_steps !== null && !full.value && (
        <Select
          label={text.training.from}
          value={warm ? "model" : "scratch"}
          options={Object.entries(asBefore ? text.training.starts : { scratch: text.training.starts.scratch })}
          onChange={(value) => (fromScratch.value = value === "scratch")}
        />
      )}
      <div class="fields">
        <Select
          label={text.training.modality}
          value={modality.value}
          options={[["", plan.modality || text.training.asFound], ...Object.entries(text.training.modalities)]}
          onChange={(value) => (modality.value = value as Modality | "")}
        />
        {!full.value && (
          <Select
            label={text.training.backbone}
            value={backbone.value}
            options={[...new Set([plan.backbone, project.value?.promptable.name ?? UNET, UNET])].map((name) => [
              name,
              name === UNET ? text.training.unet : text.training.frozen(name),
            ])}
            onChange={(value) => (backbone.value = value)}
          />
        )}
      </div>
      {ct && (
        <Check
          label={text.training.window(text.amount(low), text.amount(high))}
          checked={windowed.value}
          onChange={(checked) => (windowed.value = checked)}
        />
      )}
      {plan.message !== "" && <p class="quiet">{sentence(plan.message)}</p>}
      <p class="quiet">{text.training.then}</p>
      <div class="buttons">
        <span class="spring" />
        <Button label={text.cancel} onClick={onClose} />
        <Button label={text.training.start} tone="primary" first disabled={!plan.ready} onClick={start} />
      </div>
    </>
  );
}
