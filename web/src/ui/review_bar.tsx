import { acceptCaseStep } from "../state/actions";
import type { App } from "../state/app";
import { hint } from "../state/keys";
import { obstacleToAcceptCase } from "../state/obstacles";
import { currentSlice, readOnly, toReview } from "../state/signals";
import { text } from "../strings";
import { Button } from "./controls";

/** Below the strip: what a reviewer does with the slice on screen. */
export function ReviewBar({ app }: { app: App }) {
  const current = currentSlice.value;
  const empty = current !== null && current.labels.length === 0;
  // On a slice that nobody has touched, "nothing is here" should not be the most inviting button.
  const inviting = current !== null && current.source !== null;
  const accepted = current?.source === "reviewed";
  return (
    <div class="review-bar">
      <Button
        label={empty ? text.review.acceptEmpty : text.review.acceptSlice}
        title={hint("accept")}
        icon="check"
        tone={inviting ? "primary" : "plain"}
        disabled={readOnly.value || current === null || accepted}
        onClick={() => void app.commands.acceptSlice()}
      />
      <Button
        label={text.review.next}
        title={toReview.value.length === 0 ? text.review.nothing : hint("next")}
        icon="next"
        disabled={toReview.value.length === 0}
        onClick={() => void app.commands.nextToReview()}
      />
      <span class="quiet">{toReview.value.length > 0 ? text.review.count(toReview.value.length) : ""}</span>
      <span class="spring" />
      <Button
        label={text.review.acceptCase}
        title={obstacleToAcceptCase() || hint("acceptCase")}
        disabled={obstacleToAcceptCase() !== ""}
        onClick={acceptCaseStep}
      />
    </div>
  );
}
