// mirror-target, mirror-host, mirror-request-body: each request goes to another place as well, and what that answers is thrown away.

import type { SettingReader } from './reader.ts';
import { parseTemplate, type Template } from './template.ts';

export interface MirrorSettings {
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** Path and query; undefined: those of the request. */
  readonly target: Template | undefined;
  /** The Host field. */
  readonly hostField: string;
  readonly body: boolean;
}

/** As in ingress-nginx; the host is fixed (CVE-2025-1098), variables may stand behind it. */
export function readMirror(reader: SettingReader): MirrorSettings | undefined {
  const url = reader.text('mirror-target');
  const host = reader.text('mirror-host');
  const body = reader.oneOf('mirror-request-body', ['on', 'off']) !== 'off';
  if (url === undefined) return undefined;
  const match = /^(https?):\/\/([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?(\/?[\u0021-\u007e]*)$/.exec(url);
  const port = Number(match?.[3] ?? (match?.[1] === 'https' ? 443 : 80));
  if (!match?.[2] || port < 1 || port > 65_535 || !/^($|[/$])/.test(match[4] ?? ''))
    return reader.ignored(
      'mirror-target',
      'it is no http or https URL with a fixed host; variables may stand behind it',
    );
  const target = match[4] === '' ? undefined : parseTemplate(match[4] ?? '/');
  if (target?.kind === 'unknown')
    return reader.ignored('mirror-target', `the variable $${target.variable} is not known`);
  if (host !== undefined && !/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?$/.test(host))
    return reader.ignored('mirror-host', `${JSON.stringify(host)} is no host name`);
  return {
    secure: match[1] === 'https',
    host: match[2].replace(/^\[|\]$/g, ''),
    port,
    target: target?.template,
    hostField: host ?? match[2],
    body,
  };
}
