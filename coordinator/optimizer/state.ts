import { AtelierError } from '../../shared/errors.js';
import type { OptimizerState } from './optimizer.js';

/** Copies the arrays of a state. */
export const copyState = ({ arrays, numbers }: OptimizerState): OptimizerState => ({
  arrays: Object.fromEntries(Object.entries(arrays).map(([name, values]) => [name, values.slice()])),
  numbers: { ...numbers },
});

/**
 * A copy of what `state` has under the names of `like`; it may hold more.
 * @throws AtelierError `data`, saying what is missing or of another length
 */
export function checkedState<State extends OptimizerState>(state: OptimizerState, like: State): State {
  const arrays = Object.entries(like.arrays).map(([name, { length }]) => {
    const found = state.arrays[name];
    if (found?.length !== length) throw differs(`${name} has ${found?.length ?? 'no'} values, not ${length}`);
    return [name, found.slice()] as const;
  });
  const numbers = Object.keys(like.numbers).map((name) => {
    const found = state.numbers[name];
    if (found === undefined) throw differs(`${name} is missing`);
    return [name, found] as const;
  });
  return { arrays: Object.fromEntries(arrays), numbers: Object.fromEntries(numbers) } as unknown as State;
}

/**
 * Puts what `state` has under the names of `like` into the arrays of `like`.
 * @throws AtelierError `data`, saying what is missing or of another length; nothing is changed then
 */
export function takenOver<State extends OptimizerState>(state: OptimizerState, like: State): State {
  const { arrays, numbers } = checkedState(state, like);
  for (const [name, values] of Object.entries(arrays)) like.arrays[name]?.set(values);
  return { ...like, numbers };
}

const differs = (how: string): AtelierError =>
  new AtelierError('data', `the saved state does not fit this run: ${how}`);
