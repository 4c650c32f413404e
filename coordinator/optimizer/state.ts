import { AtelierError } from '../../shared/errors.js';
import type { OptimizerState } from './optimizer.js';

/** Copies the arrays of a state. */
export const copyState = ({ arrays, numbers }: OptimizerState): OptimizerState => ({
  arrays: Object.fromEntries(Object.entries(arrays).map(([name, values]) => [name, values.slice()])),
  numbers: { ...numbers },
});

/**
 * A copy of `state`, once it has the names and lengths of `like`, no more and no fewer.
 * @throws AtelierError `data`, saying what differs
 */
export function checkedState<State extends OptimizerState>(state: OptimizerState, like: State): State {
  for (const [kind, found, wanted] of [
    ['arrays', state.arrays, like.arrays],
    ['numbers', state.numbers, like.numbers],
  ] as const) {
    const names = Object.keys(found).sort().join(', ');
    const expected = Object.keys(wanted).sort().join(', ');
    if (names !== expected) {
      throw differs(`its ${kind} are [${names}], not [${expected}]`);
    }
  }
  for (const [name, { length }] of Object.entries(like.arrays)) {
    const found = state.arrays[name]?.length;
    if (found !== length) throw differs(`${name} has ${found} values, not ${length}`);
  }
  return copyState(state) as State;
}

const differs = (how: string): AtelierError =>
  new AtelierError('data', `the optimizer's state does not fit this run: ${how}`);
