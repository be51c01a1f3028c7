// custom-http-errors and default-backend: another Service answers in the place of one that fails or has no endpoint.

import type { SettingReader } from './reader.ts';

export interface ErrorSettings {
  /** Statuses that another Service gives the page for. */
  readonly codes: ReadonlySet<number>;
  /** `default-backend`: that Service, in the namespace of the Ingress; it also takes requests for which there is no endpoint. */
  readonly service: string | undefined;
}

/** Undefined where nothing is to be done. `codes`: what the ConfigMap says. */
export function readErrorPages(reader: SettingReader, codes: ReadonlySet<number>): ErrorSettings | undefined {
  const own = readCodes(reader);
  const service = reader.text('default-backend');
  const off = reader.bool('disable-proxy-intercept-errors') ?? false;
  if (service !== undefined && !/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(service)) {
    reader.ignored('default-backend', `${JSON.stringify(service)} is no name of a Service`);
    return undefined;
  }
  const all = off ? new Set<number>() : (own ?? codes);
  return all.size > 0 || service !== undefined ? { codes: all, service } : undefined;
}

/** As nginx' error_page: 300 to 599. */
export function readCodes(reader: SettingReader): ReadonlySet<number> | undefined {
  const words = reader.list('custom-http-errors');
  if (!words) return undefined;
  return new Set(
    words.flatMap((word) => {
      if (/^[345][0-9]{2}$/.test(word)) return [Number(word)];
      reader.ignored('custom-http-errors', `${JSON.stringify(word)} is no status from 300 to 599`);
      return [];
    }),
  );
}
