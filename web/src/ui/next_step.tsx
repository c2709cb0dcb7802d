import { startJob } from "../state/actions";
import type { App } from "../state/app";
import { hasOutline, obstacle, runs } from "../state/obstacles";
import { currentSlice, detail, project, promptable, slice, toReview } from "../state/signals";
import { sentence, text } from "../strings";
import { Button } from "./controls";

interface Step {
  readonly title: string;
  readonly reason: string;
  readonly button: string | null;
  run(): void;
}

/** One sentence of what brings the work forward now, and its button. */
export function NextStep({ app }: { app: App }) {
  const step = nextStep(app);
  return (
    <section class="step" aria-label={text.steps.heading}>
      <h2>{text.steps.heading}</h2>
      <p class="title">{step.title}</p>
      <p class="quiet">{sentence(step.reason)}</p>
      {step.button !== null && <Button label={step.button} tone="primary" icon="next" onClick={step.run} />}
    </section>
  );
}

function nextStep(app: App): Step {
  const suggestion = project.value?.suggestion ?? null;
  const here = suggestion !== null && suggestion.case === detail.value?.id && suggestion.slice === slice.value;
  const doubtful = toReview.value.length;
  if (doubtful > 0) {
    return {
      title: text.steps.review(doubtful),
      reason: text.steps.reviewReason,
      button: text.review.next,
      run: () => void app.commands.nextToReview(),
    };
  }
  if (runs("propagate")) {
    return { title: text.steps.propagating, reason: text.steps.propagatingReason, button: null, run: () => undefined };
  }
  if (obstacle("propagate") === "" && !propagated()) {
    return {
      title: text.steps.propagate,
      reason: text.steps.propagateReason,
      button: text.steps.propagate,
      run: () => startJob(app, "propagate"),
    };
  }
  if (suggestion !== null && !here) {
    const title = text.steps.suggestion(suggestion.case, suggestion.slice);
    return { title, reason: suggestion.reason, button: text.steps.go, run: () => void app.commands.goToSuggestion() };
  }
  if (hasOutline() && obstacle("train") === "") {
    return { title: text.steps.train, reason: text.steps.trainReason, button: text.steps.train, run: () => startJob(app, "train") };
  }
  const reason = promptable.value ? text.steps.outlineReason : text.steps.outlineByHand;
  const outlined = currentSlice.value?.source === "outlined" || currentSlice.value?.source === "reviewed";
  if (here && !outlined)
    return { title: text.steps.outline, reason: `${sentence(suggestion.reason)} ${reason}`, button: null, run: () => undefined };
  return {
    title: text.steps.outline,
    reason,
    button: suggestion === null && !runs("suggest") ? text.steps.ask : null,
    run: () => void app.commands.start("suggest"),
  };
}

function propagated(): boolean {
  return (detail.value?.slices ?? []).some((entry) => entry.source === "propagated" || entry.source === "predicted");
}
