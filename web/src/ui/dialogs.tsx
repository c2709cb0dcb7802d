import type { App } from "../state/app";
import { conflict, detail, dialog, toReview } from "../state/signals";
import { text } from "../strings";
import { Button } from "./controls";
import { Dialog } from "./dialog";
import { ExportDialog } from "./export_dialog";
import { Help } from "./help";
import { TrainDialog } from "./train_dialog";

export function Dialogs({ app }: { app: App }) {
  const close = (): void => {
    dialog.value = null;
  };
  return (
    <>
      {dialog.value === "help" && <Help onClose={close} />}
      {dialog.value === "export" && <ExportDialog app={app} onClose={close} />}
      {dialog.value === "train" && <TrainDialog app={app} onClose={close} />}
      {dialog.value === "acceptCase" && <AcceptCase app={app} onClose={close} />}
      {conflict.value !== null && <ConflictDialog app={app} />}
    </>
  );
}

function AcceptCase({ app, onClose }: { app: App; onClose: () => void }) {
  const accept = (): void => {
    onClose();
    void app.commands.acceptCase();
  };
  return (
    <Dialog title={text.review.acceptCase} onClose={onClose}>
      <p>{text.review.confirmCase(detail.value?.id ?? "", toReview.value.length)}</p>
      <div class="buttons">
        <span class="spring" />
        <Button label={text.cancel} onClick={onClose} />
        <Button label={text.review.acceptCase} tone="primary" first onClick={accept} />
      </div>
    </Dialog>
  );
}

function ConflictDialog({ app }: { app: App }) {
  const { slice, by } = conflict.value!;
  const close = (): void => {
    conflict.value = null;
  };
  const bringBack = (): void => {
    close();
    app.drawing.undo();
  };
  return (
    <Dialog title={text.conflict.title(slice)} onClose={close}>
      <p>{text.conflict.body(by)}</p>
      <div class="buttons">
        <span class="spring" />
        <Button label={text.conflict.mine} onClick={bringBack} />
        <Button label={text.conflict.theirs} tone="primary" first onClick={close} />
      </div>
    </Dialog>
  );
}
