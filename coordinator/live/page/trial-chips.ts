import { make } from './dom.js';
import { trialName, type TrialState } from './state.js';
import { seriesVariable } from './theme.js';

/** One switch for each trial: whether its curves are drawn. */
export class TrialChips {
  readonly hidden = new Set<number>();
  private shown = '';

  constructor(
    private readonly host: HTMLElement,
    private readonly onChange: () => void,
  ) {}

  clear(): void {
    this.hidden.clear();
    this.shown = '';
    this.host.replaceChildren();
  }

  update(trials: readonly TrialState[]): void {
    const names = trials.map((trial) => trialName(trial, trials.length));
    if (this.shown === names.join()) return;
    this.shown = names.join();
    this.host.replaceChildren(...trials.map(({ trial }, index) => this.chip(trial, names[index] ?? '')));
  }

  private chip(trial: number, name: string): HTMLButtonElement {
    const button = make('button', { type: 'button', 'aria-pressed': 'true' }, name);
    button.style.setProperty('--colour', `var(${seriesVariable(trial)})`);
    button.addEventListener('click', () => {
      const hide = !this.hidden.has(trial);
      if (hide) this.hidden.add(trial);
      else this.hidden.delete(trial);
      button.setAttribute('aria-pressed', String(!hide));
      this.onChange();
    });
    return button;
  }
}
