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

function diceOf({ expected_dice: expected, message }: Effort): { value: string; label: string; reason: string } {
  const reason =
    [expected?.reason, message, text.meter.noDiceReason].find((each) => each !== undefined && each !== null && each !== "") ?? "";
  if (expected === null || expected.estimate === null) return { value: text.meter.noDice, label: sentence(reason), reason };
  const { estimate, low, high } = expected;
  const label = low === null || high === null ? text.meter.diceLabel : text.meter.diceRange(low, high);
  return { value: text.meter.dice(estimate), label, reason: expected.reason ?? label };
}
