#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { AtelierError, ExitCode } from '../shared/errors.js';
import { ATELIER_VERSION } from '../shared/version.js';
import { addCoordinatorCommand } from './coordinator.js';
import { addDashboardsCommand } from './dashboards.js';
import { addDoctorCommand } from './doctor.js';
import { addLaunchCommand } from './launch.js';
import { addTokenCommand } from './token.js';
import { addEvaluateCommand } from './evaluate.js';
import { addExportCommand } from './export.js';
import { addPredictCommand } from './predict.js';
import { addReportCommand } from './report.js';
import { addServiceCommands } from './service-client.js';
import { addSummaryCommand } from './summary.js';
import { addKfoldCommand, addTrainCommand } from './train.js';
import { addVerifyCommand } from './verify.js';
import { addWorkerCommand } from './worker.js';

const program = new Command('atelier')
  .description('Synchronous data-parallel training for TensorFlow.js, exact to the bit')
  .version(ATELIER_VERSION)
  .configureHelp({ showGlobalOptions: true })
  .showHelpAfterError('(add --help for what there is)')
  .exitOverride();
addTrainCommand(program);
addKfoldCommand(program);
addVerifyCommand(program);
addWorkerCommand(program);
addCoordinatorCommand(program);
addServiceCommands(program);
addTokenCommand(program);
addLaunchCommand(program);
addDoctorCommand(program);
addDashboardsCommand(program);
addEvaluateCommand(program);
addExportCommand(program);
addPredictCommand(program);
addReportCommand(program);
addSummaryCommand(program);
for (const command of program.commands.flatMap((each) => [each, ...each.commands]))
  command.exitOverride().showHelpAfterError('(add --help for what there is)');

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? ExitCode.done : ExitCode.usage;
  } else if (error instanceof AtelierError) {
    process.stderr.write(`error: ${error.message}\n`);
    process.exitCode = error.exitCode;
  } else {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = ExitCode.runFailed;
  }
  // Threads and sockets of what failed half-way must not keep the process alive.
  process.exit();
}
