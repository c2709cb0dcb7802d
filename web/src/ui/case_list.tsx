import { useSignal } from "@preact/signals";
import type { CaseSummary } from "../api/types";
import type { App } from "../state/app";
import { cases, detail, opening } from "../state/signals";
import { text } from "../strings";
import { Bar } from "./controls";
import { Icon } from "./icons";

const FILTER_FROM = 8;

export function CaseList({ app }: { app: App }) {
  const wanted = useSignal("");
  const shown = cases.value.filter((entry) => entry.id.toLowerCase().includes(wanted.value.toLowerCase()));
  return (
    <nav class="cases" aria-label={text.cases.heading}>
      <header>
        <h2>{text.cases.heading}</h2>
        <span class="quiet">{text.cases.order}</span>
      </header>
      {cases.value.length >= FILTER_FROM && (
        <label class="find">
          <Icon name="search" />
          <input
            type="search"
            placeholder={text.cases.filter}
            aria-label={text.cases.filter}
            value={wanted.value}
            onInput={(event) => {
              wanted.value = event.currentTarget.value;
            }}
          />
        </label>
      )}
      <ol>
        {shown.map((entry) => (
          <Case key={entry.id} entry={entry} app={app} />
        ))}
      </ol>
      {shown.length === 0 && <p class="quiet">{text.cases.none}</p>}
    </nav>
  );
}

function Case({ entry, app }: { entry: CaseSummary; app: App }) {
  const current = detail.value?.id === entry.id;
  return (
    <li>
      <button
        type="button"
        class="case"
        aria-current={current ? "true" : undefined}
        aria-busy={opening.value === entry.id}
        disabled={entry.state === "unreadable"}
        title={entry.message || entry.id}
        onClick={() => void app.workspace.open(entry.id)}
      >
        <span class="name">{entry.id}</span>
        <span class={`state ${entry.state}`}>{text.cases.states[entry.state]}</span>
        <span class="facts">{facts(entry)}</span>
        {entry.confidence !== null && <Bar share={entry.confidence} kind={entry.confidence < 0.7 ? "doubtful" : "sure"} />}
      </button>
    </li>
  );
}

function facts(entry: CaseSummary): string {
  if (entry.state === "unreadable") return entry.message;
  const parts = [
    entry.outlined > 0 ? text.cases.outlined(entry.outlined) : "",
    entry.reviewed > 0 ? text.cases.reviewed(entry.reviewed) : "",
    entry.confidence !== null ? text.cases.confidence(entry.confidence) : "",
  ];
  return parts.filter((part) => part !== "").join(" · ");
}
