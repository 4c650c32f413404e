// Sets up everything that `npm start` and `npm test` need, on a machine with Node, npm, python3 with pip and a C++
// compiler: dependencies, the build, native TensorFlow, the dataset. Says nothing when all is there. The .mjs files
// use Node's own modules alone; the rest of set-up is TypeScript, built on the way.
import { prepareCheckout } from './checkout.mjs';
import { withLock } from './lock.mjs';
import * as tools from './tools.mjs';

const MINIMUM_NODE = [20, 19];

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor < MINIMUM_NODE[1])) {
    throw new tools.SetupError(
      `Atelier needs Node ${MINIMUM_NODE.join('.')} or newer; this is ${process.versions.node}. See https://nodejs.org`,
    );
  }
}

/** What to tell the user about anything thrown; a stack only where it is a bug of ours. */
function explain(error) {
  if (error instanceof tools.SetupError || error?.name === 'AtelierError') return error.message;
  if (error?.syscall === undefined) return error?.stack ?? String(error);
  return (
    `${error.message}\nSet-up must be able to write there, and needs 1.5 GB while it works (0.9 GB after). ` +
    'ATELIER_CACHE_DIR names another folder for its cache.'
  );
}

try {
  tools.handleSignals();
  checkNode();
  await prepareCheckout();
  const { setUp } = await import('../dist/setup/main.js');
  await setUp({ ...tools, withLock }, process.env);
} catch (error) {
  tools.say(`\nerror: ${explain(error)}`);
  process.exitCode = 2;
}
