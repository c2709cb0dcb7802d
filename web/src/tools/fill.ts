import { contains } from "../masks/grid";
import { fillRegion } from "../masks/fill";
import { notify } from "../state/notices";
import { text } from "../strings";
import type { Host, Pointer, Tool } from "./tool";

/** Fills a closed outline, or gives a region of another label the selected one. */
export class Fill implements Tool {
  readonly cursor = "cell";

  down(pointer: Pointer, host: Host): void {
    if (!contains(host.mask, pointer.point)) return;
    host.begin("fill");
    // Clicking on a region of another label asks to change it: protection would refuse just that.
    if (!fillRegion(host.mask, pointer.point, { value: host.label, allows: () => true })) {
      host.commit("fill");
      return notify("info", text.tools.notClosed);
    }
    host.changed();
    host.commit("fill");
  }
}
