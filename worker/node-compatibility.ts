import util from 'node:util';

/*
 * tfjs-node 4.22 calls two functions of node:util that Node 23 removed. Imported before tfjs-node, this puts them back
 * (they are one-liners); on older versions it does nothing.
 */
const target = util as unknown as Record<string, unknown>;
target['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
target['isArray'] ??= Array.isArray;
