import { Planes } from "../planes/planes";
import type { App } from "../state/app";
import { planesShown, project } from "../state/signals";
import { CaseList } from "./case_list";
import { Dialogs } from "./dialogs";
import { ConnectionBanner, Header } from "./header";
import { JobPanel } from "./job_panel";
import { LabelPanel } from "./label_panel";
import { NextStep } from "./next_step";
import { Notices } from "./notices";
import { References } from "./references";
import { ReviewBar } from "./review_bar";
import { SliceView } from "./slice_view";
import { Strip } from "./strip";
import { ToolOptions } from "./tool_options";
import { ToolRail } from "./tool_rail";
import { ViewBar } from "./view_bar";

export function Page({ app }: { app: App }) {
  return (
    <div class="page">
      <Header />
      <ConnectionBanner />
      <CaseList app={app} />
      <main>
        <ViewBar />
        <div class={planesShown.value ? "views split" : "views"}>
          <ToolRail app={app} />
          <SliceView app={app} />
          {planesShown.value && <Planes app={app} />}
        </div>
        <Strip app={app} />
        <ReviewBar app={app} />
      </main>
      <aside>
        <NextStep app={app} />
        <LabelPanel app={app} />
        <ToolOptions app={app} />
        <JobPanel app={app} />
        <References app={app} />
        <p class="fine">{project.value?.notice}</p>
      </aside>
      <Notices />
      <Dialogs app={app} />
    </div>
  );
}
