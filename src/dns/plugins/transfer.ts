// transfer: whole zones for other servers (AXFR, RFC 5936; IXFR, RFC 1995, as the SOA alone or the whole).

import { parseIp, type Ip } from '../../lib/ip.ts';
import { coded } from '../answers.ts';
import type { BlockDraft, BlockServices, PluginDefinition, TransferRule, TransferZone } from '../block.ts';
import { CorefileError } from '../corefile/error.ts';
import { count, unknownOption, zones } from '../corefile/words.ts';
import { encodeReply } from '../encode.ts';
import type { Asked, Handler, Outcome } from '../handler.ts';
import { transferRuleOf } from '../notify.ts';
import { parseUpstream, type UpstreamServer } from '../upstream.ts';
import type { OwnedRecord } from '../wire/message.ts';
import { nameText } from '../wire/name.ts';
import type { ResourceRecord } from '../wire/record.ts';
import { FLAG, MAX_MESSAGE_SIZE, RCODE, RR } from '../wire/types.ts';

/** Uncompressed size of the records of one message: it fits then whatever compression does. */
const MESSAGE_BYTES = 60_000;

export function transferHandler(draft: BlockDraft, services: BlockServices): Handler {
  const sources = draft.transferSources.map((make) => make(services));
  return {
    name: 'transfer',
    handle: (asked, next) => {
      const { key, type } = asked.query;
      if (type !== RR.AXFR && type !== RR.IXFR) return next(asked);
      // Over UDP a zone cannot be whole.
      if (asked.transport !== 'tcp') return coded(RCODE.REFUSED);
      const rule = transferRuleOf(draft.transferRules, key);
      if (!rule) return next(asked);
      if (!allows(rule, asked)) return coded(RCODE.REFUSED);
      if (type === RR.IXFR && asked.query.serial === undefined)
        return coded(RCODE.SERVFAIL, 'an IXFR query without the SOA record that it starts from');
      for (const source of sources) {
        const zone = source(key);
        if (!zone) continue;
        const noted = { zone: nameText(key), client: asked.client?.address ?? '', serial: zone.serial };
        const outcome = transferred(asked, zone);
        services.log.info('a zone is transferred', {
          ...noted,
          messages: outcome.kind === 'messages' ? outcome.packets.length : 0,
        });
        return outcome;
      }
      return next(asked);
    },
  };
}

function allows({ everybody, to }: TransferRule, { client }: Asked): boolean {
  if (everybody) return true;
  const ip = client && parseIp(client.address.replace(/^::ffff:(?=[0-9.]+$)/, ''));
  return to.some(({ address }) => address === ip);
}

function transferred({ query }: Asked, zone: TransferZone): Outcome {
  const packetOf = (answer: readonly ResourceRecord[]): Buffer =>
    encodeReply(
      // EDNS is for the first message alone at most; leaving it out is always right.
      { ...query, edns: undefined },
      { kind: 'message', rcode: RCODE.NOERROR, flags: FLAG.AA, answer, authority: [], additional: [] },
      MAX_MESSAGE_SIZE,
      () => 0,
    );
  if (query.serial === zone.serial) return { kind: 'messages', packets: [packetOf([zone.soa])] };
  const packets: Buffer[] = [];
  let batch: OwnedRecord[] = [];
  let size = 0;
  for (const record of wholeZone(zone)) {
    const bytes = record.owner.length + 10 + record.data.length;
    if (size + bytes > MESSAGE_BYTES) {
      packets.push(packetOf(batch));
      batch = [];
      size = 0;
    }
    batch.push(record);
    size += bytes;
  }
  packets.push(packetOf(batch));
  return { kind: 'messages', packets };
}

function* wholeZone({ soa, records }: TransferZone): Generator<OwnedRecord> {
  yield soa;
  yield* records();
  yield soa;
}

export const transfer: PluginDefinition = {
  name: 'transfer',
  once: false,
  setup: ({ args, options, place }, draft) => {
    const to: UpstreamServer[] = [];
    let everybody = false;
    let source: Ip | undefined;
    for (const option of options) {
      if (option.name === 'source') {
        count(option.args, option.place, 'source', 1);
        if (source !== undefined) throw new CorefileError(option.place, 'transfer has one source');
        source = parseIp(option.args[0] ?? '');
        if (!source) throw new CorefileError(option.place, `"${option.args[0]}" is no address to send from`);
        continue;
      }
      if (option.name !== 'to') throw unknownOption('transfer', option.name, option.place, ['to', 'source']);
      count(option.args, option.place, 'to', 1, Infinity);
      for (const word of option.args) {
        if (word === '*') everybody = true;
        else {
          const server = parseUpstream(word);
          if (!server) throw new CorefileError(option.place, `"${word}" is no address, and not *`);
          to.push(server);
        }
      }
    }
    if (to.length === 0 && !everybody)
      throw new CorefileError(place, 'transfer needs a line "to": * or the addresses of those who may have the zone');
    draft.transferRules.push({ zones: zones(args, place, draft.zones), everybody, to, source });
    if (draft.transferRules.length === 1) draft.answer('transfer', (services) => transferHandler(draft, services));
  },
};
