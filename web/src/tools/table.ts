import type { Api } from "../api/client";
import { Brush } from "./brush";
import { Crosshair } from "./crosshair";
import { Fill } from "./fill";
import { Polygon } from "./polygon";
import { BoxTool, PointsTool, PromptSession } from "./prompts";
import type { Tool, ToolName } from "./tool";

export function makeTools(api: Api): Record<ToolName, Tool> {
  const session = new PromptSession(api);
  return {
    box: new BoxTool(session),
    points: new PointsTool(session),
    brush: new Brush(false),
    eraser: new Brush(true),
    polygon: new Polygon(),
    fill: new Fill(),
    crosshair: new Crosshair(),
  };
}
