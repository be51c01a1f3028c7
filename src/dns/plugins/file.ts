// file: zones that stand in master files.

import { dirname, isAbsolute, join } from 'node:path';
import { answered, coded } from '../answers.ts';
import type { BlockDoors, BlockServices, PluginDefinition, TransferZone } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import { count, duration, unknownOption, zoneOf, zones } from '../corefile/words.ts';
import type { Answer, Asked, Handle, Handler, Outcome } from '../handler.ts';
import { resolveThrough, type ResolveOutside } from '../resolve-outside.ts';
import { notifyAll } from '../notify.ts';
import { lowerName, nameText, originAt, ROOT, type DnsName } from '../wire/name.ts';
import type { OwnedRecord } from '../wire/message.ts';
import type { ResourceRecord } from '../wire/record.ts';
import { FLAG, RCODE, RR } from '../wire/types.ts';
import { parseZoneFile } from '../zone-file/parse.ts';
import { additionalOf, fileZone, lookupInFile, type FileZone } from '../zone-file/zone.ts';

const RELOAD_MS = 60_000;
/** CNAMEs that are followed in one zone. */
const MOST_ALIASES = 8;

export interface FileHandlerOptions {
  /** Undefined for one whose file has not been read yet. */
  readonly zones: ReadonlyMap<DnsName, FileZone | undefined>;
  readonly fallthrough: readonly DnsName[];
  readonly resolveOutside: ResolveOutside;
}

export function fileHandler(options: FileHandlerOptions): Handler {
  return {
    name: 'file',
    handle: (asked, next) => {
      const { key, type } = asked.query;
      const origin = zoneOf(key, [...options.zones.keys()]);
      if (origin === undefined) return next(asked);
      const zone = options.zones.get(origin);
      if (!zone) return coded(RCODE.SERVFAIL, `the file of ${nameText(origin)} has not been read`);
      if (type === RR.AXFR || type === RR.IXFR) return coded(RCODE.REFUSED);
      return answerFrom(zone, asked, options, next);
    },
  };
}

function answerFrom(zone: FileZone, asked: Asked, options: FileHandlerOptions, next: Handle): Answer {
  const { query } = asked;
  const answer: ResourceRecord[] = [];
  let key = query.key;
  let name = query.name;
  for (let aliases = 0; ; aliases++) {
    const found = lookupInFile(zone, key, name, query.type);
    switch (found.kind) {
      case 'found':
        return positive(zone, query.key === zone.origin && query.type === RR.NS, [...answer, ...found.answer]);
      case 'alias': {
        answer.push(...found.answer);
        // The alias itself was asked for: one that a DNAME makes.
        if (query.type === RR.CNAME) return positive(zone, false, answer);
        key = lowerName(found.target);
        name = found.target;
        if (aliases >= MOST_ALIASES) return coded(RCODE.SERVFAIL, 'aliases of the zone go round');
        if (originAt(key, zone.origin) >= 0) continue;
        return outside(zone, answer, options.resolveOutside(found.target, query.type, asked));
      }
      case 'delegated':
        return referral(zone, answer, found.servers);
      case 'nodata':
        return answered({ answer, authority: [zone.soa] });
      case 'too-long':
        return answered({ rcode: RCODE.YXDOMAIN, answer: found.answer });
      case 'missing':
        if (answer.length === 0 && zoneOf(query.key, options.fallthrough) !== undefined) return next(asked);
        return answered({ rcode: RCODE.NXDOMAIN, answer, authority: [zone.soa] });
    }
  }
}

function positive(zone: FileZone, isServers: boolean, answer: readonly ResourceRecord[]): Outcome {
  return answered({
    answer,
    authority: isServers ? [] : serversOf(zone),
    additional: additionalOf(zone, answer),
  });
}

function serversOf(zone: FileZone): readonly OwnedRecord[] {
  return zone.names.get(zone.origin)?.get(RR.NS) ?? [];
}

async function outside(
  zone: FileZone,
  answer: readonly ResourceRecord[],
  resolving: ReturnType<ResolveOutside>,
): Promise<Outcome> {
  const rest = await resolving;
  return answered({ answer: [...answer, ...rest], authority: rest.length > 0 ? serversOf(zone) : [zone.soa] });
}

/** Whoever is sent on is not answered with authority, but for the aliases that led there. */
function referral(zone: FileZone, answer: readonly ResourceRecord[], servers: readonly OwnedRecord[]): Outcome {
  const additional = additionalOf(zone, servers);
  const flags = answer.length > 0 ? FLAG.AA : 0;
  const rcode = RCODE.NOERROR;
  return { kind: 'reply', reply: { kind: 'message', rcode, flags, answer, authority: servers, additional } };
}

/** One file, for each of its zones. */
interface ZoneFile {
  readonly path: string;
  readonly origins: readonly DnsName[];
  readonly place: Place;
  readonly reloadMs: number;
}

type Reader = (path: string) => Promise<string | undefined>;

type Read =
  | { readonly kind: 'zones'; readonly zones: ReadonlyMap<DnsName, FileZone> }
  | { readonly kind: 'absent' }
  | { readonly kind: 'mistake'; readonly message: string };

async function readZones({ path, origins }: Pick<ZoneFile, 'path' | 'origins'>, readText: Reader): Promise<Read> {
  const text = await readText(path);
  if (text === undefined) return { kind: 'absent' };
  const found = new Map<DnsName, FileZone>();
  for (const origin of origins) {
    const include = async (name: string) => {
      const file = isAbsolute(name) ? name : join(dirname(path), name);
      const included = await readText(file);
      return included === undefined ? undefined : { path: file, text: included };
    };
    const parsed = await parseZoneFile({ text, path, origin, include });
    if (parsed.kind === 'mistake') return parsed;
    const built = fileZone(origin, parsed.records);
    if (built.kind === 'mistake') return { kind: 'mistake', message: `${path}: ${built.what}` };
    found.set(origin, built.zone);
  }
  return { kind: 'zones', zones: found };
}

// `upstream` is of versions before 1.5, and says nothing any more.
const OPTIONS = ['reload', 'reload_by_mtime', 'fallthrough', 'upstream'];

export const file: PluginDefinition = {
  name: 'file',
  once: false,
  setup: async ({ args, options, place }, draft) => {
    count(args, place, 'file', 1, Infinity);
    const path = draft.doors.pathOf(args[0] ?? '', place);
    const origins = zones(args.slice(1), place, draft.zones);
    let reloadMs = RELOAD_MS;
    let fallthrough: readonly DnsName[] = [];
    for (const option of options) {
      if (option.name === 'reload') {
        count(option.args, option.place, 'reload', 1);
        reloadMs = duration(option.args[0] ?? '', option.place);
      } else if (option.name === 'upstream') {
        continue;
      } else if (option.name === 'reload_by_mtime') {
        // Any change of the text is seen; the serial says whether it counts.
        count(option.args, option.place, 'reload_by_mtime', 0);
      } else if (option.name === 'fallthrough') fallthrough = zones(option.args, option.place, [ROOT]);
      else throw unknownOption('file', option.name, option.place, OPTIONS);
    }
    const anyChange = options.some(({ name }) => name === 'reload_by_mtime');
    const own: ZoneFile = { path, origins, place, reloadMs };
    const current = await firstRead(own, draft.doors);
    draft.answer('file', (services) =>
      fileHandler({ zones: current, fallthrough, resolveOutside: resolveThrough(services.ask) }),
    );
    draft.transferSources.push(() => (zone) => {
      const found = current.get(zone);
      return found && transferOf(found);
    });
    draft.tasks.push((services) => follow(own, anyChange, current, services, () => draft.transferRules));
  },
};

async function firstRead(own: ZoneFile, doors: BlockDoors): Promise<Map<DnsName, FileZone | undefined>> {
  const read = await readZones(own, doors.readText);
  const at = `${own.place.file}:${own.place.line}`;
  if (read.kind === 'mistake') throw new CorefileError(own.place, read.message);
  if (read.kind === 'zones') return new Map(read.zones);
  if (own.reloadMs === 0) throw new CorefileError(own.place, `there is no file ${own.path}`);
  doors.warn(`${at}: there is no file ${own.path} yet; its zones answer SERVFAIL until there is`);
  return new Map(own.origins.map((origin) => [origin, undefined]));
}

function transferOf(zone: FileZone): TransferZone {
  return { soa: zone.soa, serial: zone.serial, records: () => zone.records.slice(1) };
}

/** Reads the file again and again; a zone is taken when its serial is another one. Those who transfer it are told. */
async function follow(
  own: ZoneFile,
  anyChange: boolean,
  current: Map<DnsName, FileZone | undefined>,
  services: BlockServices,
  rules: () => Parameters<typeof notifyAll>[0]['rules'],
): Promise<void> {
  const { clock, stopped, log, readText } = services;
  // One thread tells them for all.
  const tell = async (zone: DnsName): Promise<void> => {
    if (services.leads) await notifyAll({ zone, rules: rules(), services });
  };
  const told = [...current].filter(([, zone]) => zone !== undefined).map(([origin]) => tell(origin));
  await Promise.all(told);
  let mistake = '';
  while (own.reloadMs > 0 && !stopped.aborted) {
    await clock.sleep(own.reloadMs, stopped);
    if (stopped.aborted) return;
    const read = await readZones(own, readText);
    if (read.kind === 'mistake' && read.message !== mistake) {
      mistake = read.message;
      log.error(`a zone file has changed and cannot be taken; the old one stays. ${mistake}`);
    }
    if (read.kind !== 'zones') continue;
    mistake = '';
    for (const [origin, zone] of read.zones) {
      const before = current.get(origin);
      if (before && before.serial === zone.serial && !(anyChange && differs(before, zone))) continue;
      current.set(origin, zone);
      log.info('a zone file is in force', { zone: nameText(origin), serial: zone.serial, file: own.path });
      await tell(origin);
    }
  }
}

function differs(a: FileZone, b: FileZone): boolean {
  const text = ({ records }: FileZone): string => JSON.stringify(records);
  return text(a) !== text(b);
}
