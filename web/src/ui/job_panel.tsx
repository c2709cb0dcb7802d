import { useSignal } from "@preact/signals";
import type { Job, JobKind } from "../api/types";
import { startJob } from "../state/actions";
import type { App } from "../state/app";
import { obstacle } from "../state/obstacles";
import { jobs } from "../state/signals";
import { sentence, text } from "../strings";
import { Bar, Button, Panel } from "./controls";

const KINDS: readonly JobKind[] = ["propagate", "refine", "suggest", "train", "predict"];
const SHOWN = 3;

export function JobPanel({ app }: { app: App }) {
  const rest = jobs.value.length - SHOWN;
  const all = useSignal(false);
  return (
    <Panel heading={text.jobs.heading}>
      <div class="kinds">
        {KINDS.map((kind) => (
          <Button
            key={kind}
            label={text.jobs.kinds[kind]}
            title={obstacle(kind) || text.jobs.hints[kind]}
            disabled={obstacle(kind) !== ""}
            onClick={() => startJob(app, kind)}
          />
        ))}
      </div>
      <ul class="jobs">
        {(all.value ? jobs.value : jobs.value.slice(0, SHOWN)).map((job) => (
          <JobRow key={job.id} job={job} app={app} />
        ))}
      </ul>
      {rest > 0 && !all.value && <Button label={text.jobs.older(rest)} tone="quiet" onClick={() => (all.value = true)} />}
    </Panel>
  );
}

function JobRow({ job, app }: { job: Job; app: App }) {
  const open = useSignal(false);
  const active = job.state === "running" || job.state === "queued";
  const ended = job.state === "failed" || job.state === "cancelled" || job.state === "interrupted";
  return (
    <li class={`job ${job.state}`} data-job={job.kind} data-state={job.state}>
      <div class="head">
        <strong>{text.jobs.title(text.jobs.kinds[job.kind], job.case)}</strong>
        <span>{job.state === "running" ? text.percent(job.progress) : text.jobs.states[job.state]}</span>
      </div>
      {active && <Bar share={job.progress} kind="progress" label={text.jobs.kinds[job.kind]} />}
      {job.message !== "" && <p class="quiet">{sentence(job.message)}</p>}
      {ended && job.hint !== "" && <p class="quiet">{sentence(job.hint)}</p>}
      <div class="buttons">
        {active && <Button label={text.jobs.cancel} tone="quiet" onClick={() => void app.commands.cancel(job)} />}
        {ended && <Button label={text.jobs.resume} tone="quiet" icon="resume" onClick={() => void app.commands.resume(job)} />}
        {job.log.length > 0 && (
          <Button
            label={open.value ? text.jobs.hideLog : text.jobs.log}
            tone="quiet"
            pressed={open.value}
            onClick={() => (open.value = !open.value)}
          />
        )}
      </div>
      {open.value && <pre tabIndex={0}>{job.log.join("\n")}</pre>}
    </li>
  );
}
