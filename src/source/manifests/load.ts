import type { Files } from '../../system/files.ts';
import { buildRecords, type BuiltRecords } from './build.ts';
import type { ManifestOptions } from './document.ts';
import { ManifestFolders, requireFolders } from './folder.ts';

/** Reads folders of manifests once, for `render` and the like. Throws a SourceError when a folder is missing. */
export async function loadManifests(
  dirs: readonly string[],
  files: Files,
  options: Partial<ManifestOptions> = {},
): Promise<BuiltRecords> {
  const folders = new ManifestFolders(dirs, files);
  const scan = await folders.scan();
  requireFolders(scan);
  await folders.load(scan);
  const built = buildRecords(folders.documents(), options);
  return { ...built, errors: [...folders.errors(), ...built.errors] };
}
