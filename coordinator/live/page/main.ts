// The live page: signs in, lists the runs, follows one.
import { Api, ApiError } from './api.js';
import { byId, setText, setTone } from './dom.js';
import { follow, type Link } from './follow.js';
import { chosenRun, RunList } from './run-list.js';
import { RunView } from './run-view.js';
import { inOrder, isOver, type RunLine } from './state.js';

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
  | { readonly kind: 'following'; readonly run: string; readonly stop: AbortController }
  /** It is over; the coordinator may take it up again. */
  | { readonly kind: 'looking-back'; readonly run: string };

let page: Page = { kind: 'no-run' };

function turnTo(next: Page): void {
  if (page.kind === 'following') page.stop.abort();
  page = next;
  if (next.kind === 'signed-out' || next.kind === 'no-run') view.clear();
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

/** @param goesOn as the list says */
function showRun(name: string, goesOn: boolean): void {
  if (page.kind === 'following' && page.run === name) return;
  if (page.kind === 'looking-back' && page.run === name && !goesOn) return;
  view.clear();
  const stop = new AbortController();
  turnTo({ kind: 'following', run: name, stop });
  const follower = {
    run: (state: Parameters<typeof view.show>[0]) => {
      document.title = `${Math.floor(100 * state.progress)} % ${state.name} - Atelier`;
      view.show(state);
    },
    log: (line: Parameters<typeof view.addLine>[0]) => view.addLine(line),
    linked: (state: Link) => onLink(name, state),
  };
  void follow(api, name, follower, stop.signal);
}

function onLink(run: string, state: Link): void {
  setTone(link, state.kind === 'lost' || state.kind === 'gone' ? 'bad' : 'calm');
  switch (state.kind) {
    case 'connecting':
      setText(link, 'Connecting');
      break;
    case 'open':
      view.clearLog();
      setText(link, 'Connected: figures come as training goes');
      break;
    case 'lost':
      setText(link, 'Connection lost: trying again every few seconds');
      break;
    case 'refused':
      askForToken(state.reason);
      break;
    case 'gone':
      setText(link, 'The coordinator does not know this run (any more)');
      break;
    case 'over':
      setText(link, 'Connected: this run is over');
      turnTo({ kind: 'looking-back', run });
      break;
  }
}

/** Keeps the list of runs, and follows the newest one that goes on unless the address names another. */
async function refreshList(): Promise<void> {
  if (page.kind === 'signed-out') return;
  try {
    const answer = (await api.json('api/v1/runs', new AbortController().signal)) as { runs: RunLine[] };
    const runs = inOrder(answer.runs);
    const wanted = chosenRun(location.hash) ?? defaultRun(runs);
    list.update(runs, wanted);
    if (wanted === null) {
      turnTo({ kind: 'no-run' });
      setTone(link, 'calm');
      setText(link, 'Connected');
    } else {
      showRun(
        wanted,
        runs.some(({ name, status }) => name === wanted && !isOver(status)),
      );
    }
  } catch (error) {
    if (error instanceof ApiError && error.isRefusal) askForToken(error.message);
    else if (page.kind !== 'following') {
      // Who follows a run says so itself.
      setTone(link, 'bad');
      setText(link, 'The coordinator does not answer: trying again every few seconds');
    }
  }
}

function defaultRun(runs: readonly RunLine[]): string | null {
  const shown = 'run' in page ? page.run : null;
  if (runs.some(({ name }) => name === shown)) return shown;
  return runs[0]?.name ?? null;
}

login.addEventListener('submit', (event) => {
  event.preventDefault();
  // `atelier token create` prints a whole command line.
  api.token = /atelier1\.\S+/.exec(tokenField.value)?.[0] ?? tokenField.value.trim();
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
