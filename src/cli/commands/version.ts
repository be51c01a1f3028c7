import { EXIT_STOPPED } from '../errors.ts';
import { VERSION } from '../version.ts';

export function version(): number {
  process.stdout.write(`fairlead ${VERSION} (node ${process.versions.node})\n`);
  return EXIT_STOPPED;
}
