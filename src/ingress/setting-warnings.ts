// What the log says of annotations and ConfigMap keys that cannot be carried out: once for each change, by name.

import type { Logger } from '../observe/log.ts';
import type { Tell } from './notice.ts';
import { PersistentMap, type Difference } from '../lib/persistent-map.ts';
import type { ConfigMapRecord, SecretRecord } from '../model/records.ts';
import type { ClientCertificateSettings } from './annotations/auth-tls.ts';
import type { BackendTlsSettings } from './annotations/proxy-ssl.ts';
import type { Problem } from './annotations/reader.ts';
import type { IngressSettings } from './annotations/settings.ts';
import { AuthoritiesMemo } from './client-certificate.ts';
import { BackendTlsContexts } from './backend-tls.ts';
import type { GlobalSettings } from './global-settings.ts';
import { headerTemplates } from './annotations/header-templates.ts';
import { everyAnswer } from './every-answer.ts';
import { readDigestUsers } from './digest.ts';
import { readPasswords } from './htpasswd.ts';
import { locationsOf, type HostRoutes } from './host-routes.ts';
import type { RouteTable } from './route-table.ts';

export class SettingWarnings {
  readonly #log: Logger;
  readonly #prefix: string;
  readonly #backendTls = new BackendTlsContexts();
  readonly #authorities = new AuthoritiesMemo();
  readonly #event: Tell;
  /** By Ingress: the object that it names and why that cannot be used, when last told. */
  readonly #unusable = new Map<string, string>();
  /** Ingresses that name a Secret or a ConfigMap in their annotations. */
  readonly #naming = new Set<string>();

  constructor(log: Logger, prefix: string, event: Tell = () => {}) {
    this.#log = log;
    this.#prefix = prefix;
    this.#event = event;
  }

  tell(table: RouteTable, before: RouteTable | undefined): void {
    for (const { key, after, before: old } of since(table.settings, before?.settings)) {
      const known = new Set(old?.problems.map(problemText));
      for (const problem of after?.problems ?? []) {
        if (!known.has(problemText(problem))) this.#tellOf(key, problem);
      }
    }
    for (const { after } of since(table.hosts, before?.hosts)) this.#tellOfPaths(after);
    this.#tellOfReferences(table, before);
  }

  tellOfConfigMap(key: string, globals: GlobalSettings): void {
    if (globals.withoutEffect.length > 0) {
      this.#log.info('keys of the ConfigMap set something that is not here; nothing is missed without them', {
        configMap: key,
        keys: globals.withoutEffect.join(' '),
      });
    }
    for (const { name, reason, effect } of globals.problems) {
      this.#log.warn(
        effect === 'denied'
          ? 'a key of the ConfigMap cannot be carried out, so every location answers 503'
          : 'a key of the ConfigMap has no effect',
        { configMap: key, key: name, reason },
      );
      this.#event({
        about: 'ConfigMap',
        key,
        type: 'Warning',
        reason: effect === 'denied' ? 'KeyRefused' : 'KeyIgnored',
        note: `${name}: ${reason}`,
      });
    }
  }

  #tellOf(ingress: string, { name, reason, effect }: Problem): void {
    this.#log.warn(
      effect === 'denied'
        ? 'an annotation cannot be carried out, so the locations of its Ingress answer 503'
        : 'an annotation has no effect',
      { ingress, annotation: `${this.#prefix}/${name}`, reason },
    );
    this.#event({
      about: 'Ingress',
      key: ingress,
      type: 'Warning',
      reason: effect === 'denied' ? 'AnnotationParsingFailed' : 'AnnotationIgnored',
      note: `${this.#prefix}/${name}: ${reason}${effect === 'denied' ? '; its locations answer 503' : ''}`,
    });
  }

  #tellOfPaths(routes: HostRoutes | undefined): void {
    for (const { denied, settings, ingress, path } of locationsOf(routes)) {
      if (denied === undefined || denied === settings.denied) continue;
      this.#log.warn('a path cannot be matched as an expression, so requests that begin like it get 503', {
        ingress: `${ingress.namespace}/${ingress.name}`,
        path,
        reason: denied,
      });
      this.#event({
        about: 'Ingress',
        key: `${ingress.namespace}/${ingress.name}`,
        type: 'Warning',
        reason: 'PathRefused',
        note: `${denied}; requests that begin like it get 503`,
      });
    }
  }

  /** The ConfigMaps of add-headers and proxy-set-headers: without them the rest goes on. */
  #tellOfHeaders(table: RouteTable): void {
    const key = table.selection.globals?.proxySetHeaders;
    const map = key === undefined ? undefined : table.snapshot.configMaps.get(key);
    const templates = map && headerTemplates(map);
    const requests =
      key !== undefined && !map
        ? `the ConfigMap ${key} does not exist`
        : templates?.kind === 'bad'
          ? templates.reason
          : '';
    for (const [name, reason] of [
      ['add-headers', everyAnswer(table).problem ?? ''],
      ['proxy-set-headers', requests],
    ] as const) {
      if ((this.#unusable.get(name) ?? '') === reason) continue;
      this.#unusable.set(name, reason);
      if (reason !== '') this.#log.warn('a key of the ConfigMap has no effect', { key: name, reason });
    }
  }

  /** Of Ingresses that changed; of all that name an object when Secrets or ConfigMaps did. */
  #tellOfReferences(table: RouteTable, before: RouteTable | undefined): void {
    const { secrets, configMaps } = table.snapshot;
    const sameObjects = before?.snapshot.secrets === secrets && before.snapshot.configMaps === configMaps;
    if (before?.settings === table.settings && sameObjects) return;
    this.#tellOfHeaders(table);
    const changed: string[] = [];
    for (const { key, after } of since(table.settings, before?.settings)) {
      if (after && namesObjects(after)) {
        this.#naming.add(key);
        changed.push(key);
      } else {
        this.#naming.delete(key);
        this.#unusable.delete(key);
      }
    }
    for (const key of sameObjects ? changed : this.#naming) {
      const settings = table.settings.get(key);
      if (settings) this.#tellOfObjects(key, settings, secrets, configMaps);
    }
  }

  #tellOfObjects(
    key: string,
    settings: IngressSettings,
    secrets: PersistentMap<SecretRecord>,
    configMaps: PersistentMap<ConfigMapRecord>,
  ): void {
    const { basicAuth, customHeaders, clientCertificate, upstream } = settings;
    const missing = customHeaders !== undefined && !configMaps.has(customHeaders);
    const reason =
      unusablePasswords(settings, basicAuth && secrets.get(basicAuth.secret)) ??
      this.#unusableTls(upstream.tls, secrets) ??
      this.#unusableAuthorities(clientCertificate, secrets) ??
      (missing ? `custom-headers: the ConfigMap ${customHeaders} does not exist` : '');
    if ((this.#unusable.get(key) ?? '') === reason) return;
    this.#unusable.set(key, reason);
    if (reason === '') return;
    this.#log.warn('what an annotation names cannot be used, so the locations of its Ingress answer 503', {
      ingress: key,
      reason,
    });
    this.#event({
      about: 'Ingress',
      key,
      type: 'Warning',
      reason: 'AnnotationParsingFailed',
      note: `${reason}; its locations answer 503`,
    });
  }

  #unusableAuthorities(
    settings: ClientCertificateSettings | undefined,
    secrets: PersistentMap<SecretRecord>,
  ): string | undefined {
    const authorities = settings && this.#authorities.of(secrets.get(settings.secret));
    return authorities?.kind === 'bad' ? `auth-tls-secret ${settings?.secret}: ${authorities.reason}` : undefined;
  }

  #unusableTls(tls: BackendTlsSettings | undefined, secrets: PersistentMap<SecretRecord>): string | undefined {
    const made = tls && this.#backendTls.of(tls, tls.secret === undefined ? undefined : secrets.get(tls.secret));
    return made?.kind === 'bad' ? `proxy-ssl: ${made.reason}` : undefined;
  }
}

function namesObjects({ basicAuth, customHeaders, clientCertificate, upstream }: IngressSettings): boolean {
  return basicAuth !== undefined || customHeaders !== undefined || !!upstream.tls || clientCertificate !== undefined;
}

function unusablePasswords({ basicAuth }: IngressSettings, secret: SecretRecord | undefined): string | undefined {
  if (!basicAuth) return undefined;
  const { scheme, form } = basicAuth;
  const passwords = scheme === 'digest' ? readDigestUsers(secret, form) : readPasswords(secret, form);
  return passwords.kind === 'bad' ? `auth-secret ${basicAuth.secret}: ${passwords.reason}` : undefined;
}

function problemText({ name, reason }: Problem): string {
  return `${name} ${reason}`;
}

function since<V>(now: PersistentMap<V>, before: PersistentMap<V> | undefined): Iterable<Difference<V>> {
  return now.differences(before ?? PersistentMap.empty());
}
