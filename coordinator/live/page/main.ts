// The live page: signs in, lists the runs, follows one.
import { Api, ApiError } from './api.js';
import { byId, setText, setTone } from './dom.js';
import { follow, type Link } from './follow.js';
import { chosenRun, RunList } from './run-list.js';
import { RunView } from './run-view.js';
import { isOver, type RunLine } from './state.js';

const LIST_INTERVAL_MS = 3_000;

const api = new Api();
const view = new RunView(api);
const list = new RunList(byId('run-list', HTMLElement));
const link = byId('link', HTMLElement);
const login = byId('login', HTMLFormElement);
const loginError = byId('login-error', HTMLElement);
const tokenField = byId('token', HTMLInputElement);
const app = byId('app', HTMLElement);
const signOut = byId('sign-out', HTMLButtonElement);
const nothing = byId('nothing', HTMLElement);

/** What the page is about. */
type Page =
  | { readonly kind: 'signed-out' }
  | { readonly kind: 'no-run' }
  | { readonly kind: 'following'; readonly run: string; readonly stop: AbortController };

let page: Page = { kind: 'no-run' };

function turnTo(next: Page): void {
  if (page.kind === 'following') page.stop.abort();
  page = next;
  if (next.kind !== 'following') view.clear();
  login.hidden = next.kind !== 'signed-out';
  app.hidden = next.kind === 'signed-out';
  nothing.hidden = next.kind !== 'no-run';
  signOut.hidden = next.kind === 'signed-out' || api.token === null;
}

function askForToken(reason: string): void {
  const wasTried = api.token !== null;
  api.token = null;
  turnTo({ kind: 'signed-out' });
  setText(link, '');
  setText(loginError, wasTried ? reason : '');
  tokenField.focus();
}

function showRun(name: string): void {
  if (page.kind === 'following' && page.run === name) return;
  view.clear();
  const stop = new AbortController();
  turnTo({ kind: 'following', run: name, stop });
  const follower = {
    run: (state: Parameters<typeof view.show>[0]) => {
      document.title = `${Math.floor(100 * state.progress)} % ${state.name} - Atelier`;
      view.show(state);
    },
    log: (line: Parameters<typeof view.addLine>[0]) => view.addLine(line),
    linked: (state: Link) => onLink(state),
  };
  void follow(api, name, follower, stop.signal);
}

function onLink(state: Link): void {
  setTone(link, state.kind === 'lost' || state.kind === 'gone' ? 'bad' : 'calm');
  switch (state.kind) {
    case 'connecting':
      setText(link, 'Connecting');
      break;
    case 'open':
      setText(link, 'Connected: figures come as training goes');
      break;
    case 'lost':
      setText(link, `Connection lost: trying again every few seconds`);
      break;
    case 'refused':
      askForToken(state.reason);
      break;
    case 'gone':
      setText(link, 'The coordinator does not know this run (any more)');
      break;
  }
}

/** Keeps the list of runs, and follows the newest one that goes on unless the address names another. */
async function refreshList(): Promise<void> {
  if (page.kind === 'signed-out') return;
  try {
    const { runs } = (await api.json('api/v1/runs', new AbortController().signal)) as { runs: RunLine[] };
    const wanted = chosenRun(location.hash) ?? defaultRun(runs);
    list.update(runs, wanted);
    if (wanted === null) {
      if (page.kind === 'following') turnTo({ kind: 'no-run' });
      else turnTo({ kind: 'no-run' });
      setTone(link, 'calm');
      setText(link, 'Connected');
    } else showRun(wanted);
  } catch (error) {
    if (error instanceof ApiError && error.isRefusal) askForToken(error.message);
    else if (page.kind !== 'following') {
      setTone(link, 'bad');
      setText(link, 'The coordinator does not answer: trying again every few seconds');
    }
  }
}

function defaultRun(runs: readonly RunLine[]): string | null {
  const isKnown = page.kind === 'following' ? page.run : null;
  if (runs.some(({ name }) => name === isKnown)) return isKnown;
  return (runs.find(({ status }) => !isOver(status)) ?? runs[0])?.name ?? null;
}

login.addEventListener('submit', (event) => {
  event.preventDefault();
  api.token = tokenField.value.trim();
  tokenField.value = '';
  turnTo({ kind: 'no-run' });
  void refreshList();
});
signOut.addEventListener('click', () => {
  api.token = null;
  askForToken('');
});
addEventListener('hashchange', () => {
  if (chosenRun(location.hash) !== null) void refreshList();
});
setInterval(() => {
  if (!document.hidden) void refreshList();
}, LIST_INTERVAL_MS);
void refreshList();
