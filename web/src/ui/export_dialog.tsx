import type { ExportFormat } from "../api/types";
import type { App } from "../state/app";
import { text } from "../strings";
import { Dialog } from "./dialog";

const FORMATS: readonly ExportFormat[] = ["nifti", "nnunet", "dicom-seg"];

export function ExportDialog({ app, onClose }: { app: App; onClose: () => void }) {
  const choose = (format: ExportFormat): void => {
    onClose();
    void app.commands.export(format);
  };
  return (
    <Dialog title={text.exporting.title} onClose={onClose}>
      <p class="quiet">{text.exporting.already}</p>
      <ul class="choices">
        {FORMATS.map((format) => (
          <li key={format}>
            <button type="button" class="choice" onClick={() => choose(format)}>
              <strong>{text.exporting.formats[format]}</strong>
              <span>{text.exporting.hints[format]}</span>
            </button>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
