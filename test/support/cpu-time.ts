// What a process has used of the CPU, and its children: those that have ended, and those that run still, like the shell that runs its tools.

import { readFileSync, readdirSync } from 'node:fs';

export interface CpuSeconds {
  readonly own: number;
  readonly tools: number;
}

/** Of a process that may be gone: nothing then. */
export function cpuSecondsOf(pid: number): CpuSeconds {
  // utime, stime, cutime and cstime of proc_pid_stat(5), which are hundredths of a second.
  const fields = read(`/proc/${pid}/stat`).split(') ')[1]?.split(' ') ?? [];
  const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15).map(Number);
  const living = childrenOf(pid).map(cpuSecondsOf);
  return {
    own: (user + system) / 100,
    tools: (childUser + childSystem) / 100 + living.reduce((sum, { own, tools }) => sum + own + tools, 0),
  };
}

/** The ids of the children that run now, whichever thread has started them. */
export function childrenOf(pid: number): readonly number[] {
  return tasksOf(pid)
    .flatMap((task) => read(`/proc/${pid}/task/${task}/children`).split(' '))
    .filter((text) => text !== '')
    .map(Number);
}

function tasksOf(pid: number): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
