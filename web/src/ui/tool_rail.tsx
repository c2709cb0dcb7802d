import type { App } from "../state/app";
import { hint } from "../state/keys";
import { canRedo, canUndo, masksShown, promptable, readOnly, tool } from "../state/signals";
import { masksToggle } from "../state/actions";
import { text } from "../strings";
import { TOOL_NAMES } from "../tools/tool";
import { IconButton } from "./controls";

const PROMPTED = new Set(["box", "points"]);

/** The tools, beside the canvas. */
export function ToolRail({ app }: { app: App }) {
  return (
    <div class="rail" role="toolbar" aria-orientation="vertical" aria-label={text.tools.heading}>
      {TOOL_NAMES.map((name) => (
        <IconButton
          key={name}
          label={text.tools.names[name]}
          title={hint(name)}
          icon={name}
          pressed={tool.value === name}
          disabled={readOnly.value || (PROMPTED.has(name) && !promptable.value)}
          onClick={() => {
            tool.value = name;
          }}
        />
      ))}
      <hr />
      <IconButton label={text.tools.undo} title={hint("undo")} icon="undo" disabled={!canUndo.value} onClick={() => app.drawing.undo()} />
      <IconButton label={text.tools.redo} title={hint("redo")} icon="redo" disabled={!canRedo.value} onClick={() => app.drawing.redo()} />
      <hr />
      <IconButton
        label={text.tools.copyBelow}
        title={hint("copyBelow")}
        icon="copyBelow"
        disabled={readOnly.value}
        onClick={() => void app.drawing.copyFrom(-1)}
      />
      <IconButton
        label={text.tools.copyAbove}
        title={hint("copyAbove")}
        icon="copyAbove"
        disabled={readOnly.value}
        onClick={() => void app.drawing.copyFrom(1)}
      />
      <IconButton
        label={text.tools.interpolate}
        title={`${hint("interpolate")}. ${text.tools.interpolateHint}`}
        icon="interpolate"
        disabled={readOnly.value}
        onClick={() => void app.drawing.interpolate()}
      />
      <IconButton
        label={text.tools.clear}
        title={`${hint("clear")}. ${text.tools.clearHint}`}
        icon="clear"
        disabled={readOnly.value}
        onClick={() => app.drawing.clear()}
      />
      <hr />
      <IconButton
        label={masksShown.value ? text.view.hideMasks : text.view.showMasks}
        title={hint("masks")}
        icon={masksShown.value ? "eye" : "eyeOff"}
        onClick={masksToggle}
      />
      <IconButton label={text.view.fit} title={hint("fit")} icon="fit" onClick={() => app.canvas?.fitView()} />
    </div>
  );
}
