import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { TrainingPlan } from "../api/types";
import type { App } from "../state/app";
import { reporting } from "../state/notices";
import { sentence, text } from "../strings";
import { Button, NumberField } from "./controls";
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

function Plan({ plan, app, onClose }: { plan: TrainingPlan; app: App; onClose: () => void }) {
  const size = useSignal(plan.size);
  const steps = useSignal(plan.steps);
  const start = (): void => {
    onClose();
    void app.commands.start("train", { size: size.value, steps: steps.value });
  };
  return (
    <>
      <p>{text.training.uses(plan.slices, plan.cases, plan.validation)}</p>
      <dl class="facts">
        <dt>{text.training.targets}</dt>
        <dd>{plan.targets.join(", ")}</dd>
        {(plan.modality ?? "") !== "" && [<dt key="term">{text.training.modality}</dt>, <dd key="value">{plan.modality}</dd>]}
      </dl>
      <div class="fields">
        <NumberField
          label={`${text.training.size} (${text.training.pixels})`}
          value={size.value}
          onChange={(value) => (size.value = value)}
        />
        <NumberField label={text.training.steps} value={steps.value} onChange={(value) => (steps.value = value)} />
      </div>
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
