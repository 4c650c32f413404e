import type { GraphNode } from './graph-def.js';

/*
 * The order in which a slot computes. TensorFlow's threads are the worker's, and a thread whose slot has finished its step
 * takes what lies ready of another's: so two slots that started or ran a little apart still end together, if there is
 * something to take. Left alone, the end of a backward pass is one op after another. What nothing waits for, the gradients by the
 * weights, is therefore kept for the end, by control inputs; small ones last, since nobody can help with half an op.
 * Each op computes what it did, so the bits are the same.
 */

type Operation = Extract<GraphNode, { kind: 'operation' }>;

/** Products and convolutions: nearly all of a step's time. */
const CONTRACTION = /MatMul|Conv/;
/** TensorFlow computes it together with the gradient by the kernel, if both wait for the same. */
const WITH_CONTRACTION = 'BiasAddGrad';
/** Floats in a vector of AVX2. */
const LANES = 8;

const nodeOf = (source: string): string => source.replace(/:\d+$/, '');

/**
 * What each op is to wait for besides its inputs.
 * @param nodes in the order in which they were recorded, inputs first
 * @param outputs of the graph: `name:0`
 * @param shapes of tensors, by their sources
 * @returns by an op's name, the names of the ops that come first
 */
export function gradientsLast(
  nodes: readonly GraphNode[],
  outputs: readonly string[],
  shapes: ReadonlyMap<string, readonly number[]>,
): Map<string, readonly string[]> {
  const needed = neededOperations(nodes, outputs);
  const inputsOf = ({ inputs }: Operation): string[] => inputs.map(nodeOf).filter((name) => needed.has(name));

  const depths = new Map<string, number>();
  for (const node of needed.values()) {
    depths.set(node.name, 1 + Math.max(0, ...inputsOf(node).map((name) => depths.get(name) ?? 0)));
  }
  const depth = ({ name }: Operation): number => depths.get(name) ?? 0;
  const deepestContraction = (among: Iterable<Operation>): Operation | undefined =>
    [...among].filter(({ op }) => CONTRACTION.test(op)).toSorted((a, b) => depth(b) - depth(a))[0];

  // The longest way through the graph: forward, then backward to the gradient by the first layer's weights.
  const last = deepestContraction(needed.values());
  if (last === undefined) return new Map();
  const way = new Set<string>();
  const toVisit = [last];
  for (let node = toVisit.pop(); node !== undefined; node = toVisit.pop()) {
    for (const name of inputsOf(node)) {
      if (way.has(name)) continue;
      way.add(name);
      toVisit.push(needed.get(name) as Operation);
    }
  }
  const gate = deepestContraction([...way].map((name) => needed.get(name) as Operation));
  if (gate === undefined) return new Map();

  // Beside it lies what only an output waits for; the first op of each such branch that is work stands for the branch.
  const branches: Operation[] = [];
  const behind = new Set([last.name]);
  for (const node of needed.values()) {
    if (way.has(node.name) || node === last) continue;
    if (inputsOf(node).some((name) => behind.has(name))) {
      behind.add(node.name);
    } else if (CONTRACTION.test(node.op) || node.op === WITH_CONTRACTION) {
      behind.add(node.name);
      branches.push(node);
    }
  }

  const largest = branches.reduce(
    (best, node) => (work(node, shapes) > work(best, shapes) ? node : best),
    last,
  );
  const first = new Set([last, largest]);
  // What reads the same as these waits for as little: it may be computed in one with them.
  const read = new Set(
    [...first].flatMap(({ inputs }) => inputs.filter((input) => needed.has(nodeOf(input)))),
  );
  const before = largest === last ? [gate.name] : [gate.name, largest.name];
  return new Map(
    branches
      .filter((node) => !first.has(node) && !node.inputs.some((input) => read.has(input)))
      .map(({ name }) => [name, before]),
  );
}

/** Multiply-adds of a gradient by weights, counting the lanes of a vector that fewer channels leave empty. */
function work({ op, name, inputs }: Operation, shapes: ReadonlyMap<string, readonly number[]>): number {
  const shapeOf = (source = ''): readonly number[] => shapes.get(source) ?? [];
  const output = shapeOf(`${name}:0`);
  if (op.startsWith('Conv')) {
    const [height = 0, width = 0, channels = 0] = output;
    return elementsOf(shapeOf(inputs[2])) * height * width * Math.max(channels, LANES);
  }
  if (!op.includes('MatMul')) return 0;
  // Of n products of (a, b) and (b, c): the sizes of both and of the result have each of a, b and c twice, n thrice.
  const products = elementsOf(output.slice(0, -2));
  const sizes = [...inputs.slice(0, 2), `${name}:0`].map((source) => elementsOf(shapeOf(source)));
  return Math.sqrt(elementsOf(sizes) / products);
}

const elementsOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

function neededOperations(nodes: readonly GraphNode[], outputs: readonly string[]): Map<string, Operation> {
  const names = new Set(outputs.map(nodeOf));
  const needed: Operation[] = [];
  for (const node of nodes.toReversed()) {
    if (node.kind !== 'operation' || !names.has(node.name)) continue;
    for (const input of node.inputs) names.add(nodeOf(input));
    needed.push(node);
  }
  return new Map(needed.toReversed().map((node) => [node.name, node]));
}
