// block-cidrs, block-user-agents, block-referers: clients that no host serves.

import { cidrContains, type Cidr } from '../lib/cidr.ts';
import { parseIp } from '../lib/ip.ts';
import { compileRegex, type LinearRegex } from '../lib/linear-regex.ts';
import type { SettingReader } from './annotations/reader.ts';

type Text = { readonly kind: 'exact'; readonly text: string } | { readonly kind: 'regex'; readonly regex: LinearRegex };

export interface BlockList {
  readonly cidrs: readonly Cidr[];
  readonly userAgents: readonly Text[];
  readonly referers: readonly Text[];
}

/** Undefined when nobody is blocked. */
export function readBlockList(reader: SettingReader): BlockList | undefined {
  const cidrs = reader.ranges('block-cidrs') ?? [];
  const userAgents = texts(reader, 'block-user-agents');
  const referers = texts(reader, 'block-referers');
  return cidrs.length + userAgents.length + referers.length > 0 ? { cidrs, userAgents, referers } : undefined;
}

/** As nginx' map: the text itself, `~expression`, or `~*expression` whatever the case. */
function texts(reader: SettingReader, name: string): readonly Text[] {
  const value = reader.guard(name);
  return (value ?? '').split(',').flatMap((part): readonly Text[] => {
    const word = part.trim().replace(/^"(.*)"$/, '$1');
    if (word === '') return [];
    if (!word.startsWith('~')) return [{ kind: 'exact', text: word.toLowerCase() }];
    const ignoreCase = word.startsWith('~*');
    const compiled = compileRegex(word.slice(ignoreCase ? 2 : 1), { ignoreCase, anchored: false });
    if (compiled.kind === 'regex') return [{ kind: 'regex', regex: compiled.regex }];
    reader.denies(name, `${JSON.stringify(word)}: ${compiled.reason}`);
    return [];
  });
}

export function isBlocked(list: BlockList, address: string, header: (name: string) => string | undefined): boolean {
  const ip = list.cidrs.length > 0 ? parseIp(address) : undefined;
  return (
    (ip !== undefined && list.cidrs.some((range) => cidrContains(range, ip))) ||
    fits(list.userAgents, 'user-agent', header) ||
    fits(list.referers, 'referer', header)
  );
}

function fits(list: readonly Text[], name: string, header: (name: string) => string | undefined): boolean {
  if (list.length === 0) return false;
  const value = header(name) ?? '';
  return list.some((each) => (each.kind === 'exact' ? each.text === value.toLowerCase() : each.regex.test(value)));
}
