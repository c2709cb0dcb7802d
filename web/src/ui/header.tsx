import { themeToggle, togglePlanes, openDialog } from "../state/actions";
import { hint } from "../state/keys";
import { theme } from "../state/preferences";
import { connected, planesShown, project, readOnly, saveStatus } from "../state/signals";
import { text } from "../strings";
import { IconButton } from "./controls";
import { Icon } from "./icons";
import { Meter } from "./meter";

export function Header() {
  return (
    <header class="top">
      <div class="brand">
        <Logo />
        <h1>{text.product}</h1>
        <span class="folder" title={project.value?.folder}>
          {project.value?.folder}
        </span>
        {readOnly.value && (
          <span class="chip" title={text.readOnlyHint}>
            {text.readOnly}
          </span>
        )}
      </div>
      <Meter />
      <div class="actions">
        <SaveState />
        <IconButton label={text.view.planes} title={hint("planes")} icon="planes" pressed={planesShown.value} onClick={togglePlanes} />
        <IconButton label={text.view.export} icon="export" onClick={() => openDialog("export")} />
        <IconButton
          label={theme.value === "dark" ? text.view.light : text.view.dark}
          title={hint("theme")}
          icon={theme.value === "dark" ? "sun" : "moon"}
          onClick={themeToggle}
        />
        <IconButton label={text.view.help} title={hint("help")} icon="help" onClick={() => openDialog("help")} />
      </div>
    </header>
  );
}

function Logo() {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M5 18C5 10 9 5 17 5c6 0 10 4 10 8 0 5-5 4-7 8s-5 6-9 6c-4 0-6-4-6-9z" />
      <circle cx="16.500" cy="14" r="3" />
    </svg>
  );
}

function SaveState() {
  const status = saveStatus.value;
  const full = project.value?.disk ?? "";
  const shown = {
    saved: { kind: full === "" ? "good" : "bad", label: full === "" ? text.saving.saved : full, title: "" },
    saving: { kind: "busy", label: text.saving.saving(status.kind === "saved" ? 0 : status.count), title: "" },
    waiting:
      status.kind === "waiting"
        ? {
            kind: "bad",
            label: status.full ? text.saving.full(status.count) : text.saving.waiting(status.count),
            title: status.full ? text.saving.fullHint : text.reconnecting,
          }
        : { kind: "bad", label: "", title: "" },
  }[status.kind];
  return (
    <span class={`save ${shown.kind}`} role="status" title={shown.title} data-save={status.kind}>
      <Icon name={shown.kind === "bad" ? "warning" : "check"} />
      {shown.label}
    </span>
  );
}

/** Says that the server is away, for as long as it is. */
export function ConnectionBanner() {
  if (saveStatus.value.kind === "waiting" && saveStatus.value.full) return <Banner message={text.saving.fullHint} />;
  return connected.value ? null : <Banner message={text.reconnecting} />;
}

function Banner({ message }: { message: string }) {
  return (
    <div class="banner" role="alert">
      <Icon name="warning" />
      {message}
    </div>
  );
}
