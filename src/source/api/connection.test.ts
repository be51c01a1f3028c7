import { afterEach, beforeEach, expect, test } from 'vitest';
import { startTestApiServer, type TestApiServer, type TestUser } from '../../../test/support/api-server/server.ts';
import { silentLogger } from '../../observe/log.ts';
import { FakeClock } from '../../system/clock-fake.ts';
import { FakeFiles } from '../../system/files-fake.ts';
import { openApiConnection, type ApiConnection } from './connection.ts';
import type { Credentials } from './credentials.ts';

let server: TestApiServer;
let clock: FakeClock;
let files: FakeFiles;
let connection: ApiConnection | undefined;
const users = new Map<string, TestUser>();
const anybody: TestUser = { name: 'anybody', may: () => true };

beforeEach(async () => {
  users.clear();
  server = await startTestApiServer({ users });
  clock = new FakeClock();
  files = new FakeFiles();
});

afterEach(async () => {
  connection?.close();
  await server.stop();
});

/** A connection whose credentials are these, one after the other; the last for ever. Returns how many were taken. */
async function open(...steps: readonly Partial<Credentials>[]): Promise<() => number> {
  let taken = 0;
  const readCredentials = async (): Promise<Credentials> => ({
    server: server.url,
    caPem: undefined,
    certPem: undefined,
    keyPem: undefined,
    token: undefined,
    tokenFile: undefined,
    username: undefined,
    password: undefined,
    impersonateUser: undefined,
    serverName: undefined,
    skipTlsVerify: false,
    expiresAt: undefined,
    ...steps[Math.min(taken++, steps.length - 1)],
  });
  connection = await openApiConnection({ target: {}, clock, log: silentLogger, files, readCredentials });
  return () => taken;
}

async function ask(): Promise<number | undefined> {
  const response = await connection?.request({ path: '/api/v1/services' });
  await response?.text();
  return response?.status;
}

test('a token that is about to end is renewed before it is used', async () => {
  users.set('one', anybody).set('two', anybody);
  const taken = await open({ token: 'one', expiresAt: 600_000 }, { token: 'two' });
  expect(await ask()).toBe(200);
  expect(taken()).toBe(1);
  await clock.advance(550_000);
  expect(await ask()).toBe(200);
  expect(taken()).toBe(2);
  expect(server.requests.at(-1)?.headers['authorization']).toBe('Bearer two');
});

test('credentials that stay refused are resolved no more often than every ten seconds', async () => {
  const taken = await open({ token: 'wrong' });
  await clock.advance(10_000);
  expect(await ask()).toBe(401);
  expect(await ask()).toBe(401);
  expect(taken()).toBe(2);
  await clock.advance(10_000);
  expect(await ask()).toBe(401);
  expect(taken()).toBe(3);
});

test('a token in a file is read again each minute, and kept while it cannot be read', async () => {
  users.set('one', anybody).set('two', anybody);
  files.write('/token', 'two\n');
  const taken = await open({ token: 'one', tokenFile: '/token' });
  const used = async (): Promise<unknown> => {
    expect(await ask()).toBe(200);
    return server.requests.at(-1)?.headers['authorization'];
  };
  expect(await used()).toBe('Bearer one');
  await clock.advance(61_000);
  expect(await used()).toBe('Bearer two');
  files.write('/token', new Error('EIO'));
  await clock.advance(61_000);
  expect(await used()).toBe('Bearer two');
  expect(taken()).toBe(1);
});
