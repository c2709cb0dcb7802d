import type { Meter as Effort } from "../api/types";
import { project } from "../state/signals";
import { sentence, text } from "../strings";

/** What the annotations have cost so far, and what they promise. */
export function Meter() {
  const meter = project.value?.meter;
  if (meter === undefined) return null;
  const dice = diceOf(meter);
  return (
    <dl class="meter" aria-label={text.meter.heading}>
      <Figure value={text.meter.minutes(meter.minutes)} label={text.meter.minutesLabel} />
      <Figure value={text.meter.slices(meter.slices)} label={text.meter.slicesLabel} />
      <Figure value={text.meter.cases(meter.cases)} label={text.meter.casesLabel} />
      <Figure value={dice.value} label={dice.label} title={dice.reason} />
    </dl>
  );
}

function Figure({ value, label, title }: { value: string; label: string; title?: string }) {
  return (
    <div title={title ?? label}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** The expected Dice, or why there is none. */
export function diceOf({ expected_dice: expected, message }: Effort): { value: string; label: string; reason: string } {
  if (expected === null) {
    const reason = sentence(message === "" ? text.meter.noDiceReason : message);
    return { value: text.meter.noDice, label: reason.replace(/\.$/, ""), reason };
  }
  const label = expected.low === null ? text.meter.diceLabel : text.meter.diceAbove(expected.low);
  return { value: text.meter.dice(expected.estimate), label, reason: expected.reason === "" ? label : sentence(expected.reason) };
}
