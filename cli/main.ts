#!/usr/bin/env node
import { CommanderError } from 'commander';
import { AtelierError, ExitCode } from '../shared/errors.js';
import { makeProgram } from './program.js';

try {
  await (await makeProgram(process.argv[2])).parseAsync();
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
