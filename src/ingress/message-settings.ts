// ConfigMap keys of heads of messages: how large they may be, which names go on, what is added.

import type { SettingReader } from './annotations/reader.ts';
import { readCompression } from './compression-settings.ts';
import { DEFAULT_RULES, type MessageRules } from './http/message-rules.ts';

export interface MessageSettings extends MessageRules {
  /** `server-tokens`: answers name the proxy. */
  readonly ownServer: boolean;
}

export const DEFAULT_MESSAGES: MessageSettings = { ...DEFAULT_RULES, ownServer: false };

const MIN_LINE = 1024;
const MAX_HEAD = 1024 * 1024;

export function readMessages(reader: SettingReader, base: MessageSettings): MessageSettings {
  const ownServer = reader.bool('server-tokens') ?? base.ownServer;
  return {
    ...readBuffers(reader, base),
    underscores: reader.bool('enable-underscores-in-headers') ?? base.underscores,
    oddNames: !(reader.bool('ignore-invalid-headers') ?? !base.oddNames),
    makesRequestIds: reader.bool('generate-request-id') ?? base.makesRequestIds,
    originalUri: reader.bool('proxy-add-original-uri-header') ?? base.originalUri,
    backendServer: reader.bool('allow-backend-server-header') ?? (base.backendServer && !ownServer),
    ownServer,
    compression: readCompression(reader),
  };
}

/** `4 8k`: the request line fits into one of them, the whole head into all. */
function readBuffers(reader: SettingReader, base: MessageSettings): Pick<MessageSettings, 'maxLine' | 'maxHead'> {
  const name = 'large-client-header-buffers';
  const kept = { maxLine: base.maxLine, maxHead: base.maxHead };
  const text = reader.text(name);
  if (text === undefined) return kept;
  const match = /^([0-9]{1,4})\s+([0-9]{1,7})([kKmM]?)$/.exec(text);
  const unit = { k: 1024, m: 1024 ** 2 }[(match?.[3] ?? '').toLowerCase()] ?? 1;
  const size = Number(match?.[2] ?? 0) * unit;
  const all = Number(match?.[1] ?? 0) * size;
  if (size >= MIN_LINE && all <= MAX_HEAD) return { maxLine: size, maxHead: all };
  reader.ignored(name, `${JSON.stringify(text)} is not a number and a size such as "4 8k", of 1k each to 1m together`);
  return kept;
}
