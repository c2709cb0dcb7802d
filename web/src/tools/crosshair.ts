import { contains } from "../masks/grid";
import { crosshair } from "../state/signals";
import type { Host, Pointer, Tool } from "./tool";

/** Places the crosshair, which the other planes follow. */
export class Crosshair implements Tool {
  readonly cursor = "crosshair";

  down(pointer: Pointer, host: Host): void {
    this.move(pointer, host);
  }

  move(pointer: Pointer, host: Host): void {
    if (contains(host.mask, pointer.point)) crosshair.value = pointer.point;
    host.overlay();
  }
}
