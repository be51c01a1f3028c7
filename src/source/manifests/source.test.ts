import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { silentLogger } from '../../observe/log.ts';
import { systemClock } from '../../system/clock.ts';
import { FakeFiles } from '../../system/files-fake.ts';
import { systemFiles, type Files } from '../../system/files.ts';
import { SourceError } from '../source-error.ts';
import { Store } from '../store.ts';
import { formatMessage } from './document.ts';
import { ManifestFolders } from './folder.ts';
import { loadManifests } from './load.ts';
import { startManifestSource, type ManifestSource } from './source.ts';

let dir = '';
let store = new Store();
const sources: ManifestSource[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'fairlead-manifests-'));
  store = new Store();
});

afterEach(async () => {
  for (const source of sources.splice(0)) await source.stop();
  await rm(dir, { recursive: true, force: true });
});

async function start(dirs: readonly string[], files: Files = systemFiles): Promise<ManifestSource> {
  const source = await startManifestSource({ dirs, store, log: silentLogger, clock: systemClock, files });
  sources.push(source);
  return source;
}

const service = (name: string, port = 80): string =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec:\n  ports:\n  - port: ${port}\n`;

const names = (): readonly string[] => [...store.records.services.keys()].sort();
const portOf = (name: string): number | undefined => store.records.services.get(`default/${name}`)?.ports[0]?.port;
const soon = <T>(read: () => T, expected: T): Promise<void> =>
  vi.waitFor(() => expect(read()).toEqual(expected), { timeout: 30_000, interval: 10 });

test('reads every manifest file below the folders, and nothing else', async () => {
  await mkdir(join(dir, 'sub'));
  await writeFile(join(dir, 'a.yaml'), `${service('a')}---\n${service('b')}`);
  await writeFile(join(dir, 'sub', 'c.yml'), service('c'));
  await writeFile(
    join(dir, 'd.json'),
    JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'd' } }),
  );
  await writeFile(join(dir, 'README.md'), 'not a manifest');
  await writeFile(join(dir, '.hidden.yaml'), service('hidden'));
  await start([dir]);
  expect(names()).toEqual(['default/a', 'default/b', 'default/c']);
  expect(store.records.namespaces.has('d')).toBe(true);
  expect(store.isSynced('services')).toBe(true);
});

test('a missing folder is a usage error that names it', async () => {
  const missing = join(dir, 'nosuch');
  await expect(start([missing])).rejects.toThrow(SourceError);
  await expect(loadManifests([missing], systemFiles)).rejects.toThrow(`--manifests ${missing}: no such folder`);
});

test('a bad document is told with file and line, and the others count', async () => {
  const file = join(dir, 'a.yaml');
  await writeFile(file, `${service('a')}---\n${service('b', 70_000)}---\n${service('c')}`);
  const built = await loadManifests([dir], systemFiles);
  expect([...built.entries.services.keys()]).toEqual(['default/a', 'default/c']);
  expect(built.errors.map(formatMessage)).toEqual([
    `${file}:13: Service default/b: spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive`,
  ]);
});

test('an edit, a new file, a new folder and a removal are followed', async () => {
  const file = join(dir, 'a.yaml');
  await writeFile(file, service('a'));
  await start([dir]);
  await writeFile(file, service('a', 81));
  await soon(() => portOf('a'), 81);
  await mkdir(join(dir, 'sub'));
  await writeFile(join(dir, 'sub', 'b.yaml'), service('b'));
  await soon(names, ['default/a', 'default/b']);
  await writeFile(join(dir, 'sub', 'b.yaml'), service('c'));
  await soon(names, ['default/a', 'default/c']);
  await rm(join(dir, 'sub'), { recursive: true });
  await soon(names, ['default/a']);
  expect(portOf('a')).toBe(81);
});

test('an editor that writes beside and renames never takes the objects away', async () => {
  const file = join(dir, 'a.yaml');
  await writeFile(file, service('a'));
  await start([dir]);
  const seen: number[] = [];
  store.onChange(() => seen.push(store.records.services.size));
  await rename(file, `${file}~`);
  await writeFile(file, service('a', 81));
  await soon(() => portOf('a'), 81);
  expect(seen).toEqual([1]);
});

test('while a file is broken its last good state stays, and the rest goes on', async () => {
  const file = join(dir, 'a.yaml');
  await writeFile(file, service('a'));
  const source = await start([dir]);
  await writeFile(file, `${service('a', 81)}---\nspec: [\n`);
  await writeFile(join(dir, 'b.yaml'), service('b'));
  await soon(names, ['default/a', 'default/b']);
  expect(portOf('a')).toBe(80);
  expect(source.problems().map(formatMessage)).toEqual([
    expect.stringMatching(/a\.yaml:9: not valid YAML: .*; what the file held still counts$/),
  ]);
  await writeFile(file, service('a', 70_000));
  await soon(() => source.problems()[0]?.message.includes('70000'), true);
  expect(portOf('a')).toBe(80);
  await writeFile(file, service('a', 82));
  await soon(() => portOf('a'), 82);
  expect(source.problems()).toEqual([]);
});

test('a file that is emptied before it is written loses nothing; one that stays empty holds nothing', async () => {
  const files = new FakeFiles();
  files.write('/m/a.yaml', service('a'));
  const folders = new ManifestFolders(['/m'], files);
  const look = async (): Promise<number> => {
    const scan = await folders.scan();
    if (folders.differs(scan)) await folders.load(scan);
    return folders.documents().length;
  };
  expect(await look()).toBe(1);
  files.write('/m/a.yaml', '');
  expect(await look()).toBe(1);
  files.write('/m/a.yaml', `${service('a')}---\n${service('b')}`);
  expect(await look()).toBe(2);
  files.write('/m/a.yaml', '');
  expect(await look()).toBe(2);
  expect(await look()).toBe(0);
  expect(folders.differs(await folders.scan())).toBe(false);
});

test('a file that cannot be read keeps what it held', async () => {
  const files = new FakeFiles();
  files.write('/m/a.yaml', service('a'));
  const source = await start(['/m'], files);
  files.write('/m/a.yaml', new Error('EACCES: permission denied'));
  await soon(
    () => source.problems().map(formatMessage),
    ['/m/a.yaml: the file cannot be read (EACCES: permission denied); what it held still counts'],
  );
  expect(names()).toEqual(['default/a']);
});

test('a folder that goes away keeps what it held until it is back', async () => {
  const folder = join(dir, 'm');
  await mkdir(folder);
  await writeFile(join(folder, 'a.yaml'), service('a'));
  const source = await start([folder]);
  await rename(folder, join(dir, 'away'));
  await soon(() => source.problems().length, 1);
  expect(names()).toEqual(['default/a']);
  await mkdir(folder);
  await writeFile(join(folder, 'b.yaml'), service('b'));
  await soon(names, ['default/b']);
  expect(source.problems()).toEqual([]);
});

test('a ConfigMap mount, whose files are links that are swapped at once, is followed', async () => {
  const mount = async (version: string, text: string): Promise<void> => {
    await mkdir(join(dir, version));
    await writeFile(join(dir, version, 'a.yaml'), text);
    await symlink(version, join(dir, '..data_tmp'));
    await rename(join(dir, '..data_tmp'), join(dir, '..data'));
  };
  await mount('..2026_1', service('a'));
  await symlink('..data/a.yaml', join(dir, 'a.yaml'));
  await start([dir]);
  expect(portOf('a')).toBe(80);
  await mount('..2026_2', service('a', 81));
  await soon(() => portOf('a'), 81);
});
