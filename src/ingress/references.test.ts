import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Snapshot } from '../model/snapshot.ts';
import { ingress, snapshot } from '../../test/ingress/world.ts';
import { References } from './references.ts';

const OPTIONS = {
  annotationsPrefix: 'nginx.ingress.kubernetes.io',
  configMap: undefined,
  defaultCertificate: undefined,
};

test('names the Secrets of tls and auth-secret, the ConfigMaps of custom-headers, and those of the flags', () => {
  const world = snapshot({
    ingresses: [
      ingress({
        name: 'a',
        tls: [{ hosts: [], secretName: 'cert' }],
        annotations: { 'auth-secret': 'users', 'custom-headers': 'other/headers' },
      }),
      ingress({ name: 'b', annotations: { 'auth-secret': '../../etc/passwd', 'custom-headers': 'x'.repeat(400) } }),
    ],
  });
  expect(new References(OPTIONS).of(world)).toEqual({
    secrets: new Set(['default/cert', 'default/users']),
    configMaps: new Set(['other/headers']),
  });
  const flags = {
    ...OPTIONS,
    annotationsPrefix: 'other.example',
    configMap: 'system/settings',
    defaultCertificate: 'system/cert',
  };
  expect(new References(flags).of(world)).toEqual({
    secrets: new Set(['system/cert', 'default/cert']),
    configMaps: new Set(['system/settings']),
  });
});

test('told of one Snapshot after the other, it names what it would name of the last one alone', () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const spec = fc.record({
    name,
    tls: fc.array(
      name.map((secretName) => ({ hosts: [], secretName })),
      { maxLength: 2 },
    ),
    annotations: fc.record({ 'auth-secret': name, 'custom-headers': name }, { requiredKeys: [] }),
  });
  const world = fc.record({
    ingresses: fc.uniqueArray(spec, { selector: (each) => each.name }),
    headers: fc.option(name),
  });
  fc.assert(
    fc.property(fc.array(world, { minLength: 1, maxLength: 6 }), (worlds) => {
      const options = { ...OPTIONS, configMap: 'system/settings' };
      const references = new References(options);
      let before: Snapshot | undefined;
      for (const { ingresses, headers } of worlds) {
        const data = headers === null ? {} : { 'add-headers': `system/${headers}` };
        const next = snapshot(
          {
            ingresses: ingresses.map(ingress),
            configMaps: [{ namespace: 'system', name: 'settings', data: new Map(Object.entries(data)) }],
          },
          before,
        );
        const named = references.of(next);
        expect(named).toEqual(new References(options).of(next));
        expect(references.of(next)).toBe(named);
        before = next;
      }
    }),
  );
});
