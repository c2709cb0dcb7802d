import { effect } from "@preact/signals";
import { render } from "preact";
import { Failure } from "./api/failure";
import { App } from "./state/app";
import { theme } from "./state/preferences";
import { text } from "./strings";
import { CannotStart } from "./ui/cannot_start";
import { Page } from "./ui/page";
import "./styles/tokens.css";
import "./styles/controls.css";
import "./styles/page.css";
import "./styles/panels.css";
import "./styles/dialogs.css";

const place = document.getElementById("page")!;

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
});
document.title = text.title;

try {
  const app = await App.start();
  addEventListener("beforeunload", (event) => {
    if (app.unsaved) event.preventDefault();
  });
  render(<Page app={app} />, place);
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  render(<CannotStart message={error.message} hint={error.hint} />, place);
}
