import { Command } from 'commander';
import { ATELIER_VERSION } from '../shared/version.js';

type AddCommands = (program: Command) => void;

/** What adds each command; most take longer to load than to start, so only the one that is asked for is loaded. */
const COMMANDS: readonly { readonly names: readonly string[]; readonly load: () => Promise<AddCommands> }[] =
  [
    { names: ['train'], load: async () => (await import('./train.js')).addTrainCommand },
    { names: ['kfold'], load: async () => (await import('./train.js')).addKfoldCommand },
    { names: ['verify'], load: async () => (await import('./verify.js')).addVerifyCommand },
    { names: ['worker'], load: async () => (await import('./worker.js')).addWorkerCommand },
    { names: ['relay'], load: async () => (await import('./relay.js')).addRelayCommand },
    { names: ['coordinator'], load: async () => (await import('./coordinator.js')).addCoordinatorCommand },
    {
      names: ['submit', 'status', 'logs', 'cancel'],
      load: async () => (await import('./service-client.js')).addServiceCommands,
    },
    { names: ['token'], load: async () => (await import('./token.js')).addTokenCommand },
    { names: ['launch'], load: async () => (await import('./launch.js')).addLaunchCommand },
    { names: ['doctor'], load: async () => (await import('./doctor.js')).addDoctorCommand },
    { names: ['dashboards'], load: async () => (await import('./dashboards.js')).addDashboardsCommand },
    { names: ['evaluate'], load: async () => (await import('./evaluate.js')).addEvaluateCommand },
    { names: ['export'], load: async () => (await import('./export.js')).addExportCommand },
    { names: ['predict'], load: async () => (await import('./predict.js')).addPredictCommand },
    { names: ['report'], load: async () => (await import('./report.js')).addReportCommand },
    { names: ['summary'], load: async () => (await import('./summary.js')).addSummaryCommand },
  ];

/**
 * The `atelier` command, ready to parse.
 * @param asked the command that is to be run; without a known one all are loaded
 */
export async function makeProgram(asked?: string): Promise<Command> {
  const program = new Command('atelier')
    .description('Synchronous data-parallel training for TensorFlow.js, exact to the bit')
    .version(ATELIER_VERSION)
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(add --help for what there is)')
    .exitOverride();
  const wanted = COMMANDS.filter(({ names }) => asked !== undefined && names.includes(asked));
  for (const { load } of wanted.length > 0 ? wanted : COMMANDS) (await load())(program);
  for (const command of program.commands.flatMap((each) => [each, ...each.commands]))
    command.exitOverride().showHelpAfterError('(add --help for what there is)');
  return program;
}
