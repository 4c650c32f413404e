import { Command } from 'commander';
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

/** The `atelier` command, ready to parse. */
export function makeProgram(): Command {
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
  return program;
}
