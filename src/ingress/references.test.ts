import { expect, test } from 'vitest';
import { ingress, snapshot } from '../../test/ingress/world.ts';
import { namedObjects } from './references.ts';

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
  expect(namedObjects(world, OPTIONS)).toEqual({
    secrets: new Set(['default/cert', 'default/users']),
    configMaps: new Set(['other/headers']),
  });
  const flags = {
    ...OPTIONS,
    annotationsPrefix: 'other.example',
    configMap: 'system/settings',
    defaultCertificate: 'system/cert',
  };
  expect(namedObjects(world, flags)).toEqual({
    secrets: new Set(['system/cert', 'default/cert']),
    configMaps: new Set(['system/settings']),
  });
});
