import { runPath, type Api } from './api.js';
import { make, setText } from './dom.js';
import { isOver, type RunState } from './state.js';

const ALWAYS = ['config.json', 'manifest.json', 'metrics.jsonl', 'events.jsonl'];
const AT_THE_END = ['summary.json'];

/** Downloads. Buttons, not links: a link could not carry the token but in its address. */
export class FilesView {
  private shown = '';

  constructor(
    private readonly api: Api,
    private readonly list: HTMLElement,
    private readonly error: HTMLElement,
  ) {}

  update({ name, status, trials }: RunState): void {
    const files = isOver(status) ? [...ALWAYS, ...AT_THE_END, ...modelsOf(trials)] : ALWAYS;
    const shown = `${name} ${files.join()}`;
    if (this.shown === shown) return;
    this.shown = shown;
    setText(this.error, '');
    this.list.replaceChildren(...files.map((file) => make('li', {}, this.button(name, file))));
  }

  private button(run: string, file: string): HTMLButtonElement {
    const button = make('button', { type: 'button' }, file);
    button.addEventListener('click', () => {
      setText(this.error, '');
      button.disabled = true;
      this.api
        .download(`${runPath(run)}/files/${file}`, `${run}-${file.replaceAll('/', '-')}`)
        .catch((error: unknown) =>
          setText(this.error, `${file}: ${error instanceof Error ? error.message : ''}`),
        )
        .finally(() => (button.disabled = false));
    });
    return button;
  }
}

/** Every trial's network: a tfjs LayersModel. */
function modelsOf(trials: RunState['trials']): string[] {
  return trials.flatMap(({ fold }) => {
    const folder = fold === null ? 'model' : `folds/${fold}/model`;
    return [`${folder}/model.json`, `${folder}/weights.bin`];
  });
}
