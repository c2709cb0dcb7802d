import { Niivue, SLICE_TYPE } from "@niivue/niivue";
import { effect } from "@preact/signals";
import type { App } from "../state/app";
import { opacity } from "../state/preferences";
import { connected, crosshair, detail, labels, masksShown, saveStatus, slice, window as shown } from "../state/signals";

const REFRESH_DELAY_MS = 1200;
/** Black in both themes, as the 2D canvas: scans are read on black. */
const BACKGROUND = [0.03, 0.04, 0.05, 1];

/** Shows the open scan and its masks in NiiVue; returns how to stop. Slices and crosshairs of both views follow each other. */
export async function showVolume(canvas: HTMLCanvasElement, app: App): Promise<() => void> {
  const view = new Niivue({
    backColor: BACKGROUND,
    crosshairColor: [1, 0.84, 0.4, 0.8],
    crosshairWidth: 0.4,
    crosshairWidthUnit: "percent",
    show3Dcrosshair: true,
    isColorbar: false,
    isOrientCube: false,
    dragAndDropEnabled: false,
    loadingText: "",
    isRadiologicalConvention: true,
    // In 3D the masks show through the body.
    renderOverlayBlend: 1,
    logLevel: "error",
  });
  await view.attachToCanvas(canvas, false);
  // The axial plane is the canvas beside this view.
  view.setCustomLayout([
    { sliceType: SLICE_TYPE.CORONAL, position: [0, 0, 1, 0.33] },
    { sliceType: SLICE_TYPE.SAGITTAL, position: [0, 0.335, 1, 0.33] },
    { sliceType: SLICE_TYPE.RENDER, position: [0, 0.67, 1, 0.33] },
  ]);
  const id = detail.value!.id;
  await view.loadVolumes([
    { url: app.api.volumeUrl(id), name: "volume.nii", colormap: "gray", cal_min: shown.value.low, cal_max: shown.value.high },
    { url: fresh(app.api.maskUrl(id)), name: "mask.nii", opacity: opacity.value },
  ]);
  await view.setVolumeRenderIllumination(0.5);
  view.setScale(1.6);
  view.setRenderAzimuthElevation(190, 12);
  const session = new VolumeSession(view, app, id);
  session.start();
  return () => session.stop();
}

class VolumeSession {
  private readonly closers: (() => void)[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Set while one view moves the other, so that it does not answer. */
  private following = false;
  private versions = "";

  constructor(
    private readonly view: Niivue,
    private readonly app: App,
    private readonly id: string,
  ) {}

  start(): void {
    this.versions = versionsOf();
    this.colour();
    this.view.onLocationChange = (location: unknown) => this.moved(location as { vox: [number, number, number] });
    this.closers.push(
      effect(() => this.follow(slice.value, crosshair.value)),
      effect(() => this.window(shown.value.low, shown.value.high)),
      effect(() => this.fade(masksShown.value ? opacity.value : 0)),
      effect(() => (labels.value, this.colour())),
      effect(() => this.renewSoon(saveStatus.value.kind === "saved" && connected.value)),
    );
  }

  stop(): void {
    clearTimeout(this.timer);
    this.closers.forEach((close) => close());
    this.view.gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }

  private follow(z: number, cross: { column: number; row: number } | null): void {
    if (this.following) return;
    const [columns, rows, count] = detail.peek()?.shape ?? [1, 1, 1];
    // The volume's columns and rows run to the patient's left and back, as NiiVue's voxels of this file do.
    const x = cross === null ? 0.5 : cross.column / columns;
    const y = cross === null ? 0.5 : cross.row / rows;
    this.view.scene.crosshairPos = this.view.vox2frac([x * columns - 0.5, y * rows - 0.5, Math.min(z, count - 1)]);
    this.view.drawScene();
  }

  private moved({ vox }: { vox: [number, number, number] }): void {
    if (detail.peek()?.id !== this.id) return;
    this.following = true;
    crosshair.value = { column: vox[0] + 0.5, row: vox[1] + 0.5 };
    if (vox[2] !== slice.peek()) void this.app.workspace.goTo(vox[2]);
    this.following = false;
  }

  private window(low: number, high: number): void {
    const volume = this.view.volumes[0];
    if (volume === undefined) return;
    [volume.cal_min, volume.cal_max] = [low, high];
    this.view.updateGLVolume();
  }

  private fade(share: number): void {
    if (this.view.volumes.length > 1) this.view.setOpacity(1, share);
  }

  private colour(): void {
    const mask = this.view.volumes[1];
    if (mask === undefined) return;
    const table = [{ value: 0, color: "#000000", name: "" }, ...labels.value];
    const channel = (shift: number): number[] => table.map(({ color }) => (Number.parseInt(color.slice(1), 16) >> shift) & 0xff);
    mask.setColormapLabel({
      R: channel(16),
      G: channel(8),
      B: channel(0),
      A: table.map(({ value }) => (value === 0 ? 0 : 255)),
      I: table.map(({ value }) => value),
      labels: table.map(({ name }) => name),
    });
    this.view.updateGLVolume();
  }

  /** Fetches the masks again when they have changed and nothing was drawn for a moment. */
  private renewSoon(settled: boolean): void {
    void detail.value;
    clearTimeout(this.timer);
    if (!settled) return;
    this.timer = setTimeout(() => void this.renew(), REFRESH_DELAY_MS);
  }

  private async renew(): Promise<void> {
    const versions = versionsOf();
    const old = this.view.volumes[1];
    if (versions === this.versions || old === undefined) return;
    this.versions = versions;
    this.view.removeVolume(old);
    await this.view.addVolumeFromUrl({ url: fresh(this.app.api.maskUrl(this.id)), name: "mask.nii", opacity: opacity.value });
    this.colour();
  }
}

/** Changes whenever a mask of the open scan does. */
function versionsOf(): string {
  const open = detail.peek();
  return `${open?.version} ${open?.slices.map((entry) => entry.version).join(",")}`;
}

/** An address that no cache has answered before. */
function fresh(url: string): string {
  return `${url}?at=${Date.now()}`;
}
