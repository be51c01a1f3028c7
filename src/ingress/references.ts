// Which Secrets and ConfigMaps the Ingresses of a Snapshot name: the source reads only those.

import type { ObjectKey } from '../model/records.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { objectRef } from './annotations/reader.ts';

export interface NamedObjects {
  readonly secrets: ReadonlySet<ObjectKey>;
  readonly configMaps: ReadonlySet<ObjectKey>;
}

export interface ReferenceOptions {
  readonly annotationsPrefix: string;
  /** The controller's own, `namespace/name`. */
  readonly configMap: ObjectKey | undefined;
  readonly defaultCertificate: ObjectKey | undefined;
  /** Those of ports that are passed on as they are. */
  readonly streams?: readonly (ObjectKey | undefined)[];
}

/** Whether an object of another namespace may be used is decided where it is used; here it is only read. */
export function namedObjects(snapshot: Snapshot, options: ReferenceOptions): NamedObjects {
  const secrets = new Set<ObjectKey>();
  const configMaps = new Set<ObjectKey>();
  if (options.configMap !== undefined) configMaps.add(options.configMap);
  if (options.defaultCertificate !== undefined) secrets.add(options.defaultCertificate);
  for (const key of options.streams ?? []) if (key !== undefined) configMaps.add(key);
  const secretNames = ['auth-secret', 'auth-tls-secret', 'proxy-ssl-secret'].map(
    (name) => `${options.annotationsPrefix}/${name}`,
  );
  const own = options.configMap === undefined ? undefined : snapshot.configMaps.get(options.configMap);
  for (const name of ['add-headers', 'proxy-set-headers']) {
    const named = objectRef(own?.data.get(name)?.trim() ?? '', '');
    if (named?.key.startsWith('/') === false) configMaps.add(named.key);
  }
  const configMapNames = ['custom-headers', 'auth-proxy-set-headers'].map(
    (name) => `${options.annotationsPrefix}/${name}`,
  );
  for (const ingress of snapshot.ingresses.values()) {
    for (const { secretName: name } of ingress.tls) if (name !== undefined) secrets.add(`${ingress.namespace}/${name}`);
    for (const name of secretNames) {
      const secret = objectRef(ingress.annotations.get(name)?.trim() ?? '', ingress.namespace);
      if (secret) secrets.add(secret.key);
    }
    for (const name of configMapNames) {
      const configMap = objectRef(ingress.annotations.get(name)?.trim() ?? '', ingress.namespace);
      if (configMap) configMaps.add(configMap.key);
    }
  }
  return { secrets, configMaps };
}
