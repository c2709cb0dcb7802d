import { text } from "../strings";
import { Button } from "./controls";

export function CannotStart({ message, hint }: { message: string; hint: string }) {
  return (
    <main class="cannot-start">
      <h1>{text.cannotStart}</h1>
      <p>{message}</p>
      <p class="quiet">{hint === "" ? text.cannotStartHint : hint}</p>
      <Button label={text.reload} tone="primary" onClick={() => location.reload()} />
    </main>
  );
}
