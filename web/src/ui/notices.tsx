import { dismiss, notices } from "../state/notices";
import { sentence, text } from "../strings";
import { Button, IconButton } from "./controls";

export function Notices() {
  return (
    <div class="notices" aria-live="polite">
      {notices.value.map((notice) => (
        <div key={notice.key} class={`notice ${notice.tone}`} role={notice.tone === "bad" ? "alert" : "status"}>
          <div>
            <p>{sentence(notice.message)}</p>
            {notice.hint !== "" && <p class="quiet">{sentence(notice.hint)}</p>}
          </div>
          {notice.action !== null && (
            <Button
              label={notice.action.label}
              tone="quiet"
              onClick={() => {
                dismiss(notice.key);
                notice.action!.run();
              }}
            />
          )}
          <IconButton label={text.close} icon="close" onClick={() => dismiss(notice.key)} />
        </div>
      ))}
    </div>
  );
}
