import { BINDINGS, readable, type Binding, type Group } from "../state/keys";
import { commands, text } from "../strings";
import { Dialog } from "./dialog";

/** All keys and mouse gestures, from the same table that listens to them. */
export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title={text.help.title} wide onClose={onClose}>
      <div class="help">
        {(Object.keys(text.help.groups) as Group[]).map((group) => (
          <section key={group}>
            <h3>{text.help.groups[group]}</h3>
            <dl>
              {BINDINGS.filter((binding) => binding.group === group).map((binding) => (
                <div key={binding.command}>
                  <dt>{commands[binding.command]}</dt>
                  <dd>
                    <Keys binding={binding} />
                  </dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
        <section>
          <h3>{text.help.mouse}</h3>
          <dl>
            {text.help.mouseLines.map(([gesture, effect]) => (
              <div key={gesture}>
                <dt>{effect}</dt>
                <dd>
                  <kbd>{gesture}</kbd>
                </dd>
              </div>
            ))}
          </dl>
        </section>
      </div>
      <a href="/assets/licenses.txt" target="_blank" rel="noreferrer">
        {text.help.licenses}
      </a>
    </Dialog>
  );
}

function Keys({ binding }: { binding: Binding }) {
  const shown = binding.shown === undefined ? binding.keys.map(readable) : [binding.shown];
  return (
    <>
      {shown.map((key) => (
        <kbd key={key}>{key}</kbd>
      ))}
    </>
  );
}
