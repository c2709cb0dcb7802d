/** Every sentence and word that the page shows, in one place. */
import type { CaseState, ExportFormat, JobKind, JobState, Source } from "./api/types";
import type { ToolName } from "./tools/tool";

const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;
/** Whole numbers for HU, three digits for scans whose values are small. */
const amount = (value: number): string => String(Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3)));
const percent = (share: number): string => `${Math.round(share * 100)}%`;

export const text = {
  title: "frugalseg annotate",
  product: "frugalseg",
  loading: "Loading…",
  close: "Close",
  cancel: "Cancel",
  ok: "OK",
  shortcut: (label: string, key: string) => `${label} (${key})`,
  plural,
  percent,
  amount,

  serverGone: "The server does not answer",
  reconnecting: "The server does not answer. You can go on drawing: strokes are kept in this browser and saved as soon as it is back.",
  back: "The server is back.",
  cannotStart: "The page cannot be shown",
  cannotStartHint: "Check in the terminal that frugalseg annotate is running, then reload the page.",
  reload: "Reload",
  readOnly: "Read only",
  readOnlyHint: "This folder was opened to look at only: nothing can be drawn.",
  newServer: "The server has another version than this page.",

  saving: {
    saved: "Saved",
    saving: (count: number) => `Saving ${plural(count, "stroke")}…`,
    waiting: (count: number) => `${plural(count, "stroke")} not saved`,
    full: (count: number) => `Disk full: ${plural(count, "stroke")} kept in this browser`,
    fullHint: "Free some space on the server's disk. The strokes are kept in this browser and saved as soon as there is room.",
    refused: (slice: number, why: string) => `A stroke on slice ${slice} was refused: ${why}`,
    recovered: (count: number) =>
      `${plural(count, "stroke")} from the last session ${count === 1 ? "was" : "were"} not saved yet: saving now.`,
  },

  conflict: {
    title: (slice: number) => `Slice ${slice} was changed elsewhere`,
    body: (by: string) =>
      `${by === "" ? "Another tab or a job" : `“${by}”`} changed this slice before your last stroke. Their mask is shown now; nothing of theirs was overwritten. Your drawing is kept: Undo brings it back in place of theirs.`,
    mine: "Bring back my drawing",
    theirs: "Keep theirs",
  },
  others: (count: number) => `${plural(count, "other tab has", "other tabs have")} this scan open`,

  cases: {
    heading: "Scans",
    filter: "Find a scan",
    order: "Least certain first",
    none: "No scan has this name.",
    outlined: (count: number) => plural(count, "outlined slice"),
    reviewed: (count: number) => plural(count, "reviewed slice"),
    confidence: (share: number) => `confidence ${percent(share)}`,
    states: {
      new: "New",
      started: "Started",
      propagated: "Propagated",
      predicted: "Predicted",
      reviewed: "Reviewed",
      unreadable: "Unreadable",
    } satisfies Record<CaseState, string>,
  },

  sources: {
    outlined: "Outlined",
    propagated: "Propagated",
    predicted: "Predicted",
    reviewed: "Reviewed",
  } satisfies Record<Source, string>,
  unlabelled: "Unlabelled",

  slice: {
    of: (slice: number, count: number) => `Slice ${slice} of ${count - 1}`,
    canvas: (id: string, slice: number, count: number, state: string) => `${id}, axial slice ${slice} of ${count - 1}, ${state}`,
    instructions: "Arrow keys move through the slices. Press question mark for all keys.",
    strip: "Slices of this scan",
    stripValue: (slice: number, state: string, confidence: number | null) =>
      `Slice ${slice}, ${state}${confidence === null ? "" : `, confidence ${percent(confidence)}`}`,
    inferior: "Inferior",
    superior: "Superior",
    legend: { review: "To review", current: "On screen" },
    noImage: "This slice cannot be shown",
    nothing: "None of these scans can be read; the list says why.",
  },

  view: {
    window: "Window",
    windowCustom: "Custom",
    opacity: "Mask",
    showMasks: "Show masks",
    hideMasks: "Hide masks",
    fit: "Fit to view",
    planes: "3D and other planes",
    planesLoading: "Loading the volume…",
    noWebGl: "This browser has no WebGL 2, which the 3D view and the other planes need. Drawing works without it.",
    planesFailed: "The other planes cannot be shown",
    crosshair: "Crosshair",
    references: "Show its outline, dashed",
    dark: "Dark theme",
    light: "Light theme",
    help: "Keyboard and mouse",
    export: "Export",
  },

  tools: {
    heading: "Tools",
    names: {
      box: "Box",
      points: "Points",
      brush: "Brush",
      eraser: "Eraser",
      polygon: "Polygon",
      fill: "Fill",
      crosshair: "Crosshair",
    } satisfies Record<ToolName, string>,
    hints: {
      box: "Drag a box round the organ: the model outlines it. Inside the box its mask replaces yours.",
      points: "Click inside what belongs to the organ. Right-click, or Alt-click, what does not.",
      brush: "Drag to paint; hold Shift to erase.",
      eraser: "Drag to erase the selected label.",
      polygon: "Click the corners. Enter or a double click closes it, Backspace takes back a corner, Escape drops it.",
      fill: "Click inside a closed outline to fill it, or on a region of another label to change it.",
      crosshair: "Click or drag to place the crosshair; the other planes follow.",
    } satisfies Record<ToolName, string>,
    size: "Diameter",
    millimetres: (value: number) => `${value} mm`,
    limit: "Only intensities",
    from: "from",
    to: "to",
    likeLabel: "As in the label",
    noVoxels: "Draw some of the label on this slice first.",
    protect: "Keep other labels",
    notClosed: "The outline is not closed here, so nothing was filled.",
    thinking: "The model is outlining. Shortly after the start of the server it is still being loaded.",
    overtaken: "You drew while the model was at work, so its mask was not used. Ask it again.",
    noPrompt: "Box and points need a promptable model",
    undo: "Undo",
    redo: "Redo",
    clear: "Clear slice",
    clearHint: "Removes the slice's mask: it is unlabelled again",
    copyBelow: "Copy from the slice below",
    copyAbove: "Copy from the slice above",
    nothingToCopy: "That slice does not have this label.",
    interpolate: "Interpolate",
    interpolateHint: "Fills the slices between the nearest ones below and above on which you outlined this label",
    interpolated: (count: number, first: number, last: number) => `Interpolated ${plural(count, "slice")} between ${first} and ${last}.`,
    nothingBetween: "Interpolation needs this label outlined on a slice below and on a slice above, with slices between them.",
  },

  labels: {
    heading: "Labels",
    add: "Add a label",
    name: "Name",
    color: "Colour",
    rename: (name: string) => `Rename or recolour ${name}`,
    delete: (name: string) => `Delete ${name}`,
    confirm: (name: string, voxels: number, slices: number) =>
      `Delete the label ${name}? Its ${plural(voxels, "voxel")} on ${plural(slices, "slice")} become background. This can be undone.`,
    confirmDelete: "Delete",
    changed: (name: string) => `Changed the label ${name}.`,
    deleted: (name: string) => `Deleted the label ${name}.`,
    undo: "Undo",
    save: "Save",
    none: "Add a label to start drawing.",
  },

  review: {
    acceptSlice: "Accept slice",
    acceptEmpty: "Accept as empty",
    acceptCase: "Accept scan",
    next: "Next to review",
    nothing: "Nothing is left to review in this scan.",
    accepted: (slice: number) => `Slice ${slice} accepted.`,
    acceptedCase: (id: string) => `${id} accepted.`,
    nextCase: "Next scan",
    count: (count: number) => `${count} to review`,
    confirmCase: (id: string, count: number) =>
      `Accept all of ${id}? ${plural(count, "slice is", "slices are")} marked for review and would become labels as they are.`,
  },

  steps: {
    heading: "Next step",
    suggestion: (id: string, slice: number) => `Outline slice ${slice} of ${id}`,
    go: "Go there",
    ask: "Suggest a slice",
    askReason: "The program can look at the scans and say which slice teaches it most.",
    propagating: "Propagating",
    propagatingReason: "The masks appear in the strip as they are made. You can outline other scans meanwhile.",
    propagate: "Propagate",
    propagateReason: "Carries what you outlined through the rest of this scan.",
    outline: "Outline this slice",
    outlineReason: "Draw a box round the organ, then correct the mask with the brush.",
    outlineByHand: "Draw the organ with the brush or the polygon.",
    review: (count: number) => `Review ${plural(count, "doubtful slice")}`,
    reviewReason: "Correct what is wrong and accept the slice; the least certain comes first.",
    train: "Train",
    trainReason: "Learns from your slices and segments every other scan.",
  },

  obstacles: {
    noScan: "No scan is open.",
    running: "This is running already.",
    noModel: "This needs the weights of a promptable model.",
    noOutline: "Outline a slice first, in any scan.",
    noOutlineHere: "Outline a slice of this scan first.",
    allLabelled: "Every slice of this scan is outlined or reviewed.",
    nothingToRefine: "This scan has no propagated or predicted mask.",
    nothingToAccept: "This scan has no propagated or predicted slice.",
    notTrained: "Train a model first.",
  },

  jobs: {
    heading: "Jobs",
    kinds: { propagate: "Propagate", refine: "Refine", suggest: "Suggest", train: "Train", predict: "Predict" } satisfies Record<
      JobKind,
      string
    >,
    hints: {
      propagate: "Carry the outlined slices through this scan",
      refine: "Refine the masks of this scan with the promptable model",
      suggest: "Find the slice that teaches most",
      train: "Train on all outlined and reviewed slices, then predict every scan",
      predict: "Segment every scan with the trained model",
    } satisfies Record<JobKind, string>,
    states: {
      queued: "waiting",
      running: "running",
      done: "done",
      failed: "failed",
      cancelled: "cancelled",
      interrupted: "interrupted",
    } satisfies Record<JobState, string>,
    none: "No job yet.",
    log: "Log",
    hideLog: "Hide log",
    cancel: "Cancel",
    resume: "Resume",
    title: (kind: string, id: string | null) => (id === null ? kind : `${kind} · ${id}`),
    finished: (kind: string) => `${kind} is done.`,
    failed: (kind: string, why: string) => `${kind} failed: ${why}`,
    older: (count: number) => `${plural(count, "older job")}`,
  },

  training: {
    title: "Train a model",
    start: "Train",
    uses: (slices: number, cases: number, validation: number, targets: readonly string[]) =>
      `Learns ${targets.join(", ")} from ${plural(slices, "slice")} of ${plural(cases, "scan")}${
        validation === 0 ? "" : `, ${plural(validation, "scan")} of them for validation`
      }.`,
    modality: "Modality",
    asFound: "as found",
    modalities: { ct: "CT", mr: "MR" },
    window: (low: string, high: string) => `With the window on screen, ${low} … ${high}, instead of the usual one`,
    length: "Training",
    lengths: { quick: "quick: enough to see what to correct", best: "full recipe: many times as long" },
    from: "Start from",
    starts: { model: "the last model: fewer steps", scratch: "scratch" },
    backbone: "Network",
    frozen: (name: string) => `light, on the features of ${name}`,
    unet: "U-Net",
    size: "Slice size (pixels)",
    steps: "Training steps",
    then: "Then every scan is predicted, and the list shows the least certain first.",
  },

  meter: {
    heading: "Effort so far",
    minutes: (minutes: number) => (minutes >= 0.05 && minutes < 10 ? `${minutes.toFixed(1)} min` : `${Math.round(minutes)} min`),
    minutesLabel: "spent drawing",
    slices: (count: number) => plural(count, "slice"),
    slicesLabel: "outlined or reviewed",
    cases: (count: number) => plural(count, "scan"),
    casesLabel: "with labels",
    dice: (estimate: number) => `Dice ${estimate.toFixed(2)}`,
    diceAbove: (low: number) => `expected; mean lower bound ${low.toFixed(2)}`,
    diceLabel: "expected on a new scan",
    noDice: "No Dice yet",
    noDiceReason: "It can be estimated once a model is trained and checked on a scan it has not seen.",
  },

  references: {
    heading: "Reference masks",
    slice: (value: number) => `this slice ${value.toFixed(3)}`,
    case: "Compute Dice of the scan",
    missing: "no reference",
  },

  exporting: {
    title: "Export masks",
    formats: { nifti: "NIfTI", nnunet: "nnU-Net raw dataset", "dicom-seg": "DICOM SEG" } satisfies Record<ExportFormat, string>,
    hints: {
      nifti: "One label map a scan, in the scan's own grid",
      nnunet: "imagesTr, labelsTr and dataset.json",
      "dicom-seg": "For scans that were read from DICOM",
    } satisfies Record<ExportFormat, string>,
    done: (folder: string, files: number) => `Wrote ${plural(files, "file")} to ${folder}.`,
    already: "The folder of annotations is always a valid folder of labels for prepare; an export is only needed for other programs.",
  },

  help: {
    title: "Keyboard and mouse",
    licenses: "Licences of the programs in this page",
    mouse: "Mouse",
    mouseLines: [
      ["Wheel", "Previous or next slice"],
      ["Ctrl + wheel", "Zoom where the pointer is"],
      ["Right drag", "Window: across its width, up and down its level"],
      ["Middle drag, or Space + drag", "Move the picture"],
      ["Shift + drag with the brush", "Erase"],
    ] as const,
    groups: { draw: "Draw", edit: "Edit", move: "Move", view: "View", review: "Review and jobs" },
  },
} as const;

/** The server's messages begin and end like parts of a sentence. */
export function sentence(message: string): string {
  const end = message === "" || /[.!?…]$/.test(message) ? "" : ".";
  return message.charAt(0).toUpperCase() + message.slice(1) + end;
}

/** Names of what keys do, for the help and for tooltips. */
export const commands = {
  box: "Box tool",
  points: "Points tool",
  brush: "Brush",
  eraser: "Eraser",
  polygon: "Polygon",
  fill: "Fill",
  crosshair: "Crosshair",
  smaller: "Smaller brush",
  larger: "Larger brush",
  limit: "Limit the brush to intensities",
  label: "Choose a label",
  undo: "Undo",
  redo: "Redo",
  copyBelow: "Copy the label from the slice below",
  copyAbove: "Copy the label from the slice above",
  interpolate: "Interpolate between outlined slices",
  clear: "Clear the slice",
  up: "Next slice towards the head",
  down: "Next slice towards the feet",
  upTen: "Ten slices towards the head",
  downTen: "Ten slices towards the feet",
  first: "First slice",
  last: "Last slice",
  nextCase: "Next scan in the list",
  previousCase: "Previous scan in the list",
  suggestion: "Go to the suggested slice",
  zoomIn: "Zoom in",
  zoomOut: "Zoom out",
  fit: "Fit to view",
  window: "Next window preset",
  masks: "Show or hide masks",
  planes: "3D and other planes",
  theme: "Dark or light theme",
  help: "This list",
  next: "Next slice to review, least certain first",
  accept: "Accept the slice",
  acceptCase: "Accept the scan",
  propagate: "Propagate",
  train: "Train",
} as const;

export type Command = keyof typeof commands;
