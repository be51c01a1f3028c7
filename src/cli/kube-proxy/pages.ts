// kube-proxy's pages for people: `/flagz`, what the program was started with, and `/statusz`, what runs here and since when.

import type { Routes } from '../../observe/server.ts';
import type { Arguments } from '../args.ts';
import { FLAGS } from '../flags.ts';
import { FLAG_FIELDS } from './from-flags.ts';
import { configurationOf, toJson } from './schema.ts';

export interface PagesOptions {
  readonly args: Arguments;
  readonly version: string;
  /** In milliseconds since 1970, as `now`. */
  readonly startedAt: number;
  readonly now: () => number;
}

const WARNING =
  'Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.';

export function pagesForPeople(options: PagesOptions): Routes {
  const page = (name: string, body: string) => ({
    status: 200,
    contentType: 'text/plain; charset=utf-8',
    body: `\nfairlead-proxy ${name}\n${WARNING}\n${body}`,
  });
  return new Map([
    ['/flagz', () => page('flagz', flagLines(options.args).join(''))],
    ['/statusz', () => page('statusz', statusText(options))],
  ]);
}

/** Every flag of the command with its value, which is the default where none was given. */
function flagLines(args: Arguments): readonly string[] {
  const defaults = toJson(configurationOf(new Map()));
  return FLAGS.filter(({ commands }) => commands.includes('proxy'))
    .map(({ name }) => `${name}: ${args.list(name)?.join(',') ?? defaultOf(defaults, name)}\n`)
    .sort();
}

function defaultOf(defaults: unknown, flag: string): string {
  let value = defaults;
  for (const part of FLAG_FIELDS[flag]?.[0]?.split('.') ?? ['']) {
    value = typeof value === 'object' && value !== null ? Reflect.get(value, part) : undefined;
  }
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

function statusText({ version, startedAt, now }: PagesOptions): string {
  const seconds = Math.floor((now() - startedAt) / 1000);
  const two = (count: number): string => String(count).padStart(2, '0');
  const up = `${Math.floor(seconds / 3600)} hr ${two(Math.floor(seconds / 60) % 60)} min ${two(seconds % 60)} sec`;
  return `
Started  ${new Date(startedAt).toUTCString()}
Up  ${up}
Node version  ${process.version}
Binary version  ${version}
Paths  /configz /explain/service /flagz /healthz /livez /metrics /metrics/slis /proxyMode /readyz /state /statusz /trace
`;
}
