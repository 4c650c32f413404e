import Table from 'cli-table3';
import { Option, type Command } from 'commander';
import { z } from 'zod';
import { RunListItem, RunName, RunState, Submitted, WorkerStatus } from '../shared/api.js';
import { ClusterConfig, TrainingConfig } from '../shared/config.js';
import { AtelierError } from '../shared/errors.js';
import { isPreset } from '../shared/models/presets.js';
import { readTopologyFile, parseTopology } from '../shared/models/topology.js';
import { ApiClient } from './api-client.js';
import { addRunOptions, resolveRunConfig } from './options.js';
import { addJoinOptions, type JoinFlags } from './security.js';

/** How often `logs -f` asks for more. */
const FOLLOW_INTERVAL_MS = 1_000;
/** Settings that are the coordinator's business. */
const NOT_OF_A_SUBMISSION = ['workers', 'slots', 'listen'];

interface ClientFlags extends Omit<JoinFlags, 'join'>, Record<string, unknown> {
  readonly coordinator: string;
  readonly json?: boolean;
}

/** `submit`, `status`, `logs` and `cancel`: the client of `atelier coordinator`. */
export function addServiceCommands(program: Command): void {
  const submit = program
    .command('submit')
    .description('hand a run to a coordinator, with the options of train');
  const settings = [...Object.keys(TrainingConfig.shape), ...Object.keys(ClusterConfig.shape)];
  addRunOptions(
    submit,
    settings.filter((key) => !NOT_OF_A_SUBMISSION.includes(key)),
  );
  addClientOptions(submit).action((flags: ClientFlags) => submitRun(flags, process.env));

  addClientOptions(
    program
      .command('status')
      .description('the runs and workers of a coordinator, or one run')
      .argument('[run]'),
  ).action((run: string | undefined, flags: ClientFlags) => showStatus(run, flags, process.env));

  addClientOptions(
    program
      .command('logs')
      .description('what happened in a run: joins, leaves, checkpoints, warnings')
      .argument('<run>')
      .option('-f, --follow', 'go on until the run is over'),
  ).action((run: string, flags: ClientFlags & { follow?: boolean }) => showLogs(run, flags, process.env));

  addClientOptions(
    program
      .command('cancel')
      .description('end a run before its time; its checkpoints stay')
      .argument('<run>'),
  ).action((run: string, flags: ClientFlags) => cancelRun(run, flags, process.env));
}

function addClientOptions(command: Command): Command {
  command
    .addOption(
      new Option('--coordinator <url>', 'where it listens, such as wss://10.0.0.5:7077')
        .env('ATELIER_COORDINATOR')
        .default('ws://127.0.0.1:7077'),
    )
    .option('--json', 'print JSON');
  addJoinOptions(command);
  return command;
}

const clientOf = (flags: ClientFlags, env: NodeJS.ProcessEnv): ApiClient =>
  new ApiClient({ ...flags, join: flags.coordinator }, env);

const pathOf = (run: string): string => {
  if (!RunName.safeParse(run).success) {
    throw new AtelierError('usage', `${run} is no name of a run: "atelier status" lists them`);
  }
  return `/api/v1/runs/${run}`;
};

const say = (text: string): boolean => process.stdout.write(`${text}\n`);

async function submitRun(flags: ClientFlags, env: NodeJS.ProcessEnv): Promise<void> {
  const config = resolveRunConfig(flags, env);
  // The coordinator cannot read our files.
  const topology = isPreset(config.model)
    ? null
    : parseTopology(readTopologyFile(config.model), config.model);
  const submitted = await clientOf(flags, env).post('/api/v1/runs', { config, topology }, Submitted);
  if (flags.json === true) say(JSON.stringify(submitted));
  else {
    const { name, status, ahead } = submitted;
    say(status === 'queued' ? `${name} waits, ${ahead} before it` : `${name} begins`);
    say(`Follow it with: atelier logs ${name} -f`);
  }
}

async function showStatus(
  run: string | undefined,
  flags: ClientFlags,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const client = clientOf(flags, env);
  if (run !== undefined) {
    const state = await client.get(pathOf(run), RunState);
    say(flags.json === true ? JSON.stringify(state) : runText(state));
    return;
  }
  const { runs } = await client.get('/api/v1/runs', z.object({ runs: z.array(RunListItem) }));
  const { workers } = await client.get('/api/v1/workers', z.object({ workers: z.array(WorkerStatus) }));
  if (flags.json === true) {
    say(JSON.stringify({ runs, workers }));
    return;
  }
  const table = tableOf(['run', 'status', 'progress', 'started']);
  for (const { name, status, progress, startedAt } of runs) {
    table.push([name, status, percent(progress), startedAt ?? '-']);
  }
  say(runs.length === 0 ? 'No runs yet: atelier submit hands one in' : table.toString());
  say(workers.length === 0 ? 'No workers: atelier worker --join brings some' : workersText(workers));
}

async function showLogs(
  run: string,
  flags: ClientFlags & { follow?: boolean },
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const client = clientOf(flags, env);
  const path = pathOf(run);
  for (let after = 0; ;) {
    // Asked first: a run that is over by then has written its last line.
    const { status } = await client.get(path, RunState);
    const { lines, next } = await client.log(run, after);
    for (const line of lines) say(flags.json === true ? line : lineText(line));
    const isOver = status === 'done' || status === 'failed' || status === 'stopped';
    if (next === after && (flags.follow !== true || isOver)) return;
    if (next === after) await new Promise((resolve) => setTimeout(resolve, FOLLOW_INTERVAL_MS));
    after = next;
  }
}

async function cancelRun(run: string, flags: ClientFlags, env: NodeJS.ProcessEnv): Promise<void> {
  const answer = await clientOf(flags, env).post(`${pathOf(run)}/cancel`, {}, z.object({ name: RunName }));
  say(flags.json === true ? JSON.stringify(answer) : `${answer.name} ends`);
}

const tableOf = (head: string[]): InstanceType<typeof Table> =>
  new Table({ head, style: { head: [], border: [], compact: true } });

const percent = (part: number): string => `${(100 * part).toFixed(0)} %`;
const four = (value: number | null | undefined): string =>
  value === null || value === undefined ? '-' : value.toFixed(4);

function runText(state: RunState): string {
  const { name, status, reason, progress, etaSeconds, imagesPerSecond, weightsSha256, trials, workers } =
    state;
  const eta = etaSeconds === null ? '' : `, ${Math.ceil(etaSeconds)} s to go`;
  const speed =
    imagesPerSecond > 0 ? `, ${Math.round(imagesPerSecond).toLocaleString('en-US')} images/s` : '';
  const lines = [`${name}: ${status}, ${percent(progress)}${eta}${speed}`];
  if (reason !== null) lines.push(reason);
  if (weightsSha256 !== null) lines.push(`weights ${weightsSha256}`);
  if (trials.length > 0) {
    const table = tableOf(['fold', 'status', 'epoch', 'step', 'loss', 'val loss', 'val accuracy']);
    for (const { fold, status: its, epoch, epochs, step, steps, loss, epochsDone } of trials) {
      const last = epochsDone.at(-1);
      const where = [`${epoch}/${epochs}`, `${step}/${steps}`];
      const figures = [four(loss ?? last?.loss), four(last?.valLoss), four(last?.valAccuracy)];
      table.push([fold === null ? '-' : String(fold), its, ...where, ...figures]);
    }
    lines.push(table.toString());
  }
  if (workers.length > 0) lines.push(workersText(workers));
  return lines.join('\n');
}

function workersText(workers: readonly WorkerStatus[]): string {
  const table = tableOf(['worker', 'host', 'state', 'slots busy', 'rows/s', 'heard']);
  for (const { name, host, state, slots, busySlots, rowsPerSecond, heartbeatAgeSeconds } of workers) {
    const busy = `${busySlots} of ${slots}`;
    table.push([
      name,
      host,
      state,
      busy,
      rowsPerSecond.toLocaleString('en-US'),
      `${heartbeatAgeSeconds} s ago`,
    ]);
  }
  return table.toString();
}

/** A line of events.jsonl for people. */
function lineText(line: string): string {
  try {
    const { time, type, ...rest } = JSON.parse(line) as Record<string, unknown>;
    const details = Object.entries(rest).map(([key, value]) => `${key}=${textOf(value)}`);
    return [textOf(time), textOf(type), ...details].join(' ');
  } catch {
    return line;
  }
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));
