/** Arguments: `relay` and those of `atelier relay`. One whose scheduler, as the coordinator's of a cell, does not measure speeds. */
import { makeProgram } from '../../../cli/program.js';
import { ignoreSpeeds } from './ignore-speeds.js';

ignoreSpeeds();
await (await makeProgram('relay')).parseAsync();
