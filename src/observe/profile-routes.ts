// `/debug/pprof/`: profiles of this process, at the paths of Go's but in V8's formats.

import type { Clock } from '../system/clock.ts';
import type { HttpAnswer } from '../system/http-server.ts';
import { takeProfile, type ProfileKind } from '../system/profiler.ts';
import type { Route, Routes } from './server.ts';

export interface ProfileOptions {
  readonly clock: Pick<Clock, 'sleep'>;
  /** What of the process is in a profile, in a sentence. */
  readonly about: string;
  /** Ends a profile that is under way. */
  readonly stopped: AbortSignal;
}

const MOST_SECONDS = 60;
const DEFAULT_SECONDS = { cpu: 30, heap: 10 };
const FILES = { cpu: 'fairlead.cpuprofile', heap: 'fairlead.heapprofile' };

export function profileRoutes({ clock, about, stopped }: ProfileOptions): Routes {
  let busy = false;
  const profile =
    (kind: ProfileKind): Route =>
    async ({ query }) => {
      const words = query.get('seconds');
      const seconds = words === null || words === '' ? DEFAULT_SECONDS[kind] : Number(words);
      if (!(seconds > 0 && seconds <= MOST_SECONDS))
        return text(400, `seconds is a number up to ${MOST_SECONDS}, not "${words}"\n`);
      if (busy) return text(429, 'one profile at a time: another one is being taken\n');
      busy = true;
      try {
        const body = await takeProfile(kind, () => clock.sleep(seconds * 1000, stopped));
        const headers = { 'Content-Disposition': `attachment; filename="${FILES[kind]}"` };
        return { status: 200, contentType: 'application/json', body, headers };
      } finally {
        busy = false;
      }
    };
  const index = `Profiles of this process. There is no Go here: they are in V8's formats, for Chrome's DevTools or speedscope.
${about}

/debug/pprof/profile?seconds=30   where time is spent (.cpuprofile)
/debug/pprof/heap?seconds=10      what is allocated meanwhile and held (.heapprofile)
/debug/pprof/cmdline              how it was started
`;
  return new Map<string, Route>([
    ['/debug/pprof/', () => text(200, index)],
    ['/debug/pprof/profile', profile('cpu')],
    ['/debug/pprof/heap', profile('heap')],
    ['/debug/pprof/cmdline', () => text(200, process.argv.join('\0'))],
  ]);
}

function text(status: number, body: string): HttpAnswer {
  return { status, contentType: 'text/plain; charset=utf-8', body };
}
